// SPDX-License-Identifier: Apache-2.0

// Tokenises texts as the server does.

import { Tokenizer } from "./tokenizers.min.mjs";

export class TextInput {
  #tokenizer;
  #unknown;

  /** file: the content of tokenizer.json. */
  constructor(file) {
    this.#tokenizer = new Tokenizer(file, {});
    this.#unknown = file.model.vocab[file.model.unk_token];
  }

  /** Returns the ids, and each token as it stands in the text. */
  encode(text) {
    const { ids } = this.#tokenizer.encode(text);
    return { ids: ids.map((id) => id ?? this.#unknown), words: this.#words(text, ids.length) };
  }

  /**
   * The tokenizer does not tell where its tokens begin. No token contains a space, so that the parts between spaces can be
   * looked at one by one: a part that is one token is shown as it is, one that keeps its length is cut at the lengths of
   * its tokens, and of another one, the tokens themselves are shown.
   */
  #words(text, count) {
    const words = text.split(/\s+/u).filter(Boolean).flatMap((part) => this.#wordsOf(part));
    return words.length === count ? words : this.#tokenizer.encode(text).tokens;
  }

  #wordsOf(part) {
    const { tokens } = this.#tokenizer.encode(part);
    if (tokens.length === 1) return [part];
    const letters = [...part];
    if (tokens.reduce((sum, token) => sum + [...token].length, 0) !== letters.length) return tokens;
    return tokens.map((token) => letters.splice(0, [...token].length).join(""));
  }
}
