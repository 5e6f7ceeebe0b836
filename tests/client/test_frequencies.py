# SPDX-License-Identifier: Apache-2.0
"""Relevance in the frequency domain: it adds up, equals its definition, and finds a planted tone."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain_client.frequencies import spectrogram, spectrum

TONE = Path(__file__).parent / "models" / "tone.onnx"
RNG = np.random.default_rng(0)


def contributions(x: np.ndarray) -> np.ndarray:
    """[N, frequencies]: what each frequency adds to each value, from the full transform, written out."""
    N = len(x)
    X, n = np.fft.fft(x), np.arange(N)
    parts = np.array([X[k] * np.exp(2j * np.pi * k * n / N) / N for k in range(N)])  # [all frequencies, N]
    merged = [parts[0], *[parts[k] + (parts[N - k] if N - k != k else 0) for k in range(1, N // 2 + 1)]]
    return np.real(np.array(merged)).T


@pytest.mark.parametrize("steps", [9, 16])
def test_a_spectrum_equals_the_z_rule_through_the_inverse_transform(steps: int) -> None:
    x, r = RNG.standard_normal((2, steps))
    expected = (contributions(x) * (r / x)[:, None]).sum(axis=0)
    found = spectrum("x", x[:, None], r[:, None], ["a"], rate=2.0)
    np.testing.assert_allclose(found.relevance[:, 0], expected, atol=1e-9)
    np.testing.assert_allclose(found.relevance.sum(), r.sum())
    np.testing.assert_allclose(found.frequencies, np.arange(steps // 2 + 1) * 2.0 / steps)
    assert found.remainder == 0


@pytest.mark.parametrize(("steps", "window"), [(64, 16), (61, 8), (10, 10)])
def test_a_spectrogram_adds_up(steps: int, window: int) -> None:
    x, r = RNG.standard_normal((2, steps, 3))
    found = spectrogram("x", x, r, ["a", "b", "c"], 1.0, window)
    np.testing.assert_allclose(found.relevance.sum(axis=(0, 1)), r.sum(axis=0))


def test_a_single_window_equals_the_z_rule() -> None:
    x, r = RNG.standard_normal((2, 8))
    found = spectrogram("x", x[:, None], r[:, None], ["a"], 1.0, 8)
    hann = np.sin(np.pi * np.arange(8) / 8) ** 2
    expected = (contributions(x * hann) * (r / x)[:, None]).sum(axis=0)
    np.testing.assert_allclose(found.relevance[list(found.starts).index(0), :, 0], expected, atol=1e-12)


def test_a_tone_that_sounds_for_a_while_is_found_in_time_and_frequency() -> None:
    n = np.arange(256)
    tone = np.where((n >= 128) & (n < 192), np.sin(2 * np.pi * n / 8), 0.0)
    hum = np.sin(2 * np.pi * n / 32)
    x = tone + hum
    found = spectrogram("x", x[:, None], (x * tone)[:, None], ["a"], 1.0, 32)  # the relevance of sum(x tone)
    of_tone = found.relevance[:, 3:6].sum()
    assert of_tone / found.relevance.sum() > 0.95
    while_it_sounds = (found.starts >= 112) & (found.starts < 192)
    assert found.relevance[while_it_sounds].sum() / found.relevance.sum() > 0.99


def test_relevance_at_zeros_remains() -> None:
    x, r = np.array([[0.0], [1.0], [2.0], [0.0]]), np.array([[5.0], [1.0], [2.0], [0.5]])
    found = spectrum("x", x, r, ["a"], 1.0)
    np.testing.assert_allclose(found.remainder, [5.5])
    np.testing.assert_allclose(found.relevance.sum(), 3.0)


@pytest.mark.parametrize(
    ("method", "least"),
    [
        (lx.GradientTimesInput(), 0.9),
        (lx.IntegratedGradients(), 0.9),
        (lx.Occlusion(), 0.9),
        (lx.LRP(epsilon=1e-3), 0.85),
        (lx.LRP(), 0.6),
    ],
    ids=str,
)
def test_the_tone_that_a_model_listens_to_is_found(method: lx.Method, least: float) -> None:
    """The LSTM was trained to return the amplitude of the tone of 9 periods in 64 steps, amid two others of random
    amplitude and phase, and noise (training/tone.py).
    """
    model, n = lx.load(TONE), np.arange(64)
    rng = np.random.default_rng(1)
    amplitudes, phases = rng.uniform(0.3, 1, (32, 3)), rng.uniform(0, 2 * np.pi, (32, 3))
    tones = amplitudes[..., None] * np.cos(2 * np.pi * np.array([4, 9, 15])[:, None] * n / 64 + phases[..., None])
    x = tones.sum(axis=1)[..., None].astype(np.float32)
    explanation = model.explain({"x": x}, method)
    shares = []
    for sample in range(len(x)):
        found = explanation.spectrum(sample=sample).relevance[:, 0]
        shares.append(found[9] / np.abs(found).sum())
    assert np.median(shares) >= least


def test_pictures_and_frames() -> None:
    matplotlib.use("agg")
    model = lx.load(TONE)
    explanation = model.explain({"x": RNG.standard_normal((2, 64, 1)).astype(np.float32)})
    found = explanation.spectrum("x", 1, rate=100)
    assert len(found.plot().axes) == 2
    frame = found.to_frame()
    assert list(frame.columns) == ["feature", "frequency", "amplitude", "relevance"]
    np.testing.assert_allclose(frame["relevance"].sum(), explanation.relevance["x"][1].sum(), rtol=1e-5)
    explanation.spectrogram(window=16).plot()


def test_wrong_arguments_are_named() -> None:
    explanation = lx.load(TONE).explain({"x": RNG.standard_normal((1, 64, 1)).astype(np.float32)})
    with pytest.raises(KeyError, match="no input 'y'"):
        explanation.spectrum("y")
    with pytest.raises(IndexError, match="sample 1, there are 1"):
        explanation.spectrum(sample=1)
    with pytest.raises(ValueError, match="rate is 0"):
        explanation.spectrum(rate=0)
    with pytest.raises(ValueError, match="window is 65, expected an even number of steps from 2 to the signal's 64"):
        explanation.spectrogram(window=65)
