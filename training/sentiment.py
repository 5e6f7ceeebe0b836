# SPDX-License-Identifier: Apache-2.0
"""Train the bundled sentiment model on the Stanford Sentiment Treebank, export it and measure what was exported."""

import argparse
import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnxruntime
import torch
from common import check_close, data_parser, make_deterministic, model_path
from export import save_classifier
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

Network = TypeVar("Network", bound=nn.Module)
PAD, UNK = 0, 1
CLASSES = 5
NEUTRAL = 2
AVERAGE_RATE = 0.002  # the average of the weights spans the last 500 steps, about two epochs
# How the treebank writes what people write otherwise, and what typesetters write for both.
SPELLINGS = {
    "-lrb-": "(", "-rrb-": ")", "\\/": "/", "\\*": "*", "``": '"', "''": '"', "`": "'",
    "“": '"', "”": '"', "‘": "'", "’": "'", "—": " -- ", "–": " -- ", "…": " ... ",
}  # fmt: skip
# The treebank's tokens, first match wins. Contractions are cut off as there: did n't, ca n't, film 's, we 're.
TOKEN = "|".join(
    [
        r"n't\b",
        r"'(?:s|re|ve|ll|d|m|em|n|til)\b",
        r"can(?=not\b)",
        r"\w+?(?=n't\b)",
        r"(?:mr|mrs|ms|dr|vs|jr|sr|st)\.",
        r"(?:[a-z]\.){2,}",
        r"'?\d+(?:[.,:]\d+)*(?:\w|-\w)*",
        r"\w+(?:-\w+)*",
        r"\.{2,}|-{2,}",
        r"[^\w\s]",
    ]
)


@dataclass(frozen=True)
class Sentences:
    """Encoded sentences with their labels, 0 (very negative) to 4 (very positive)."""

    tokens: list[torch.Tensor]
    labels: torch.Tensor

    def shuffled(self, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Padded batches in random order, each of sentences of similar length: less padding, half the time."""
        order, pool = torch.randperm(len(self.tokens)).tolist(), 20 * size
        starts = range(0, len(order), pool)
        pools = [sorted(order[start : start + pool], key=lambda i: len(self.tokens[i])) for start in starts]
        groups = [chosen[start : start + size] for chosen in pools for start in range(0, len(chosen), size)]
        for group in torch.randperm(len(groups)).tolist():
            yield from self.batches(size, groups[group])

    def batches(self, size: int, order: Sequence[int]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Padded batches in the given order."""
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield pad_sequence([self.tokens[i] for i in chosen], batch_first=True), self.labels[chosen]


class Classifier(nn.Module):
    """Word embedding, bidirectional LSTM, and a linear layer on the final states of both directions."""

    def __init__(self, words: int, embedding_size: int, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, embedding_size, padding_idx=PAD)
        self.lstm = nn.LSTM(embedding_size, hidden_size, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * hidden_size, CLASSES)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [batch, 5] of padded token ids [batch, time]."""
        lengths = (tokens != PAD).flip(1).cumsum(1).sign().sum(1)
        embedded = self.dropout(self.embedding(tokens))
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        _, (final, _) = self.lstm(packed)
        return self.linear(self.dropout(torch.cat([final[0], final[1]], dim=1)))


def build_tokenizer() -> Tokenizer:
    """A tokenizer without words: it only normalises and splits, the same for the treebank and for plain English."""
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": PAD, "[UNK]": UNK}, unk_token="[UNK]"))
    spellings = [normalizers.Replace(old, new) for old, new in SPELLINGS.items()]
    # Accents are dropped because reviewers use them at random: cliché and cliche are one word.
    steps = [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase(), *spellings]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(TOKEN), behavior="removed", invert=True)
    return tokenizer


def read(path: Path) -> tuple[list[str], list[int]]:
    """Sentences and labels of one file of the treebank: `LABEL tokens…`."""
    lines = [line.split(" ", 1) for line in path.read_text(encoding="utf-8").splitlines()]
    return [text for _, text in lines], [int(label) for label, _ in lines]


def learn_words(tokenizer: Tokenizer, texts: list[str], min_count: int) -> Counter[str]:
    """Give the tokenizer every word that occurs often enough, most frequent first; returns how often each occurs."""

    def words(text: str) -> list[str]:
        normalised = tokenizer.normalizer.normalize_str(text)
        return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalised)]

    counts = Counter(word for text in texts for word in words(text))
    frequent = sorted((word for word in counts if counts[word] >= min_count), key=lambda word: (-counts[word], word))
    vocabulary = {"[PAD]": PAD, "[UNK]": UNK}
    vocabulary |= {word: index for index, word in enumerate(frequent, start=len(vocabulary))}
    tokenizer.model = models.WordLevel(vocabulary, unk_token="[UNK]")
    return counts


def encode(tokenizer: Tokenizer, texts: list[str], labels: list[int]) -> Sentences:
    """Token ids of every sentence."""
    return Sentences([torch.tensor(row.ids) for row in tokenizer.encode_batch(texts)], torch.tensor(labels))


def forget_words(tokens: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
    """Replace words by [UNK] at random, rare ones more often, so that [UNK] means what it will meet: rare words."""
    return torch.where(torch.rand(tokens.shape) < rates[tokens], torch.full_like(tokens, UNK), tokens)


def predict(model: nn.Module, sentences: Sentences) -> torch.Tensor:
    """Logits of all sentences, in batches of sentences of different lengths."""
    model.eval()
    with torch.no_grad():
        order = range(len(sentences.tokens))
        return torch.cat([model(tokens) for tokens, _ in sentences.batches(128, order)])


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """On five classes; and positive against negative, by the probabilities on either side, without neutral ones."""
    five = (logits.argmax(1) == labels).float().mean().item()
    probabilities = logits.softmax(1)
    positive = probabilities[:, 3:].sum(1) > probabilities[:, :2].sum(1)
    decided = labels != NEUTRAL
    return five, (positive == (labels > NEUTRAL))[decided].float().mean().item()


def follow(average: nn.Module, model: nn.Module, rate: float) -> None:
    """Move the running average of the weights a little towards the weights of this step."""
    with torch.no_grad():
        for kept, current in zip(average.parameters(), model.parameters(), strict=True):
            kept.lerp_(current, rate)


def train(
    model: Network, sentences: Sentences, dev: Sentences, rates: torch.Tensor, epochs: int, learning_rate: float
) -> Network:
    """Adam on the cross-entropy; returns the running average of the weights as of the epoch that is best on dev."""
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    average, best, best_score, step = copy.deepcopy(model), model, 0.0, 0
    for epoch in range(1, epochs + 1):
        model.train()
        for tokens, labels in sentences.shuffled(32):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(forget_words(tokens, rates)), labels).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            step += 1
            # Young averages forget faster, or they would remember the random start.
            follow(average, model, max(AVERAGE_RATE, 1 / (1 + 0.1 * step)))
        five, two = accuracy(predict(average, dev), dev.labels)
        print(f"epoch {epoch}: dev {five:.2%} on five classes, {two:.2%} on two", flush=True)
        # Both tasks count: five classes alone is a noisy judge on a thousand sentences.
        if five + two > best_score:
            best_score, best = five + two, copy.deepcopy(average)
    return best


def verify(path: Path, model: nn.Module, sentences: Sentences) -> torch.Tensor:
    """Run the exported model over ragged batches, compare it with torch, return its logits."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    order = range(len(sentences.tokens))
    batches = sentences.batches(64, order)
    logits = np.concatenate([session.run(None, {"tokens": tokens.numpy()})[0] for tokens, _ in batches])
    check_close(path.parent.parent.name, logits, predict(model, sentences).numpy(), 1e-5)
    return torch.from_numpy(logits)


def add_options(
    options: argparse.ArgumentParser, *, epochs: int, embedding_size: int, hidden_size: int
) -> argparse.ArgumentParser:
    """The options that both models of sentiment have."""
    options.add_argument("--epochs", type=int, default=epochs, help="passes over the training data")
    options.add_argument("--embedding-size", type=int, default=embedding_size)
    options.add_argument("--hidden-size", type=int, default=hidden_size, help="units, of each direction")
    options.add_argument("--dropout", type=float, default=0.5)
    options.add_argument("--learning-rate", type=float, default=4e-3)
    options.add_argument("--min-count", type=int, default=2, help="rarer words are unknown words")
    options.add_argument("--forget", type=float, default=0.1, help="a word seen n times is hidden at forget/(forget+n)")
    return options


def train_and_export(
    name: str,
    chosen: argparse.Namespace,
    build: Callable[[int], Network],
    save: Callable[[Path, Network], None],
) -> None:
    """Train the network that `build` makes for a number of words, write it and the tokenizer, print the accuracy."""
    make_deterministic(chosen.seed)
    texts, labels = read(chosen.data / "sst" / "fine.train.txt")
    tokenizer = build_tokenizer()
    counts = learn_words(tokenizer, texts, chosen.min_count)
    sentences = encode(tokenizer, texts, labels)
    dev, test = (encode(tokenizer, *read(chosen.data / "sst" / f"fine.{part}.txt")) for part in ("dev", "test"))
    words = tokenizer.get_vocab_size()
    rates = torch.zeros(words)
    for index in range(UNK + 1, words):
        rates[index] = chosen.forget / (chosen.forget + counts[tokenizer.id_to_token(index)])

    model = train(build(words), sentences, dev, rates, chosen.epochs, chosen.learning_rate)

    path = model_path(chosen.out, name)
    save(path, model)
    tokenizer.save(str(path.parent.parent / "tokenizer.json"))
    print(f"{words} words, {sum(p.numel() for p in model.parameters())} parameters, {path.stat().st_size} bytes")
    for part_name, part in (("dev", dev), ("test", test)):
        five, two = accuracy(verify(path, model, part), part.labels)
        print(f"{part_name}: {five:.2%} on five classes, {two:.2%} positive against negative")


def main() -> None:
    options = data_parser(__doc__, seed=1)
    chosen = add_options(options, epochs=8, embedding_size=60, hidden_size=60).parse_args()

    def build(words: int) -> Classifier:
        return Classifier(words, chosen.embedding_size, chosen.hidden_size, chosen.dropout)

    train_and_export(
        "sentiment", chosen, build, lambda path, model: save_classifier(path, model.embedding, model.lstm, model.linear)
    )


if __name__ == "__main__":
    main()
