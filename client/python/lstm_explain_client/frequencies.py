# SPDX-License-Identifier: Apache-2.0
"""Relevance of a time series in the frequency domain and in the time-frequency domain (DFT-LRP).

A signal of N steps is the inverse discrete Fourier transform of its spectrum X, which is a linear layer in front of the
model: x_n = sum_k c_k(n), with c_k(n) = w_k / N Re(X_k exp(i 2 pi k n / N)), where w_k = 2 for frequencies that stand
for their negative as well, otherwise 1. The z-rule (LRP-0) through that layer gives frequency k the relevance

    R_k = sum_n c_k(n) R_n / x_n = w_k / N Re(X_k conj(Q_k)),    Q: the spectrum of R_n / x_n,

so that the relevance of all frequencies adds up to that of all steps (Vielhaben, Lapuschkin, Montavon and Samek 2024,
"Explainable AI for Time Series via Virtual Inspection Layers", arXiv 2303.06365, section 3). For the time-frequency
domain, windows that add up to one cut the signal into segments, each with a spectrum of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lstm_explain_client import views
from lstm_explain_client.explained_batch import ExplainedBatch
from lstm_explain_client.extras import imported

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]

# Values below this share of the signal's root mean square count as zero: relevance over such a value has no meaning.
ZERO = 1e-6


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The relevance of one sample of one input by frequency.

    relevance: [frequencies, features]. amplitudes: of the signal, in its own units, in the same shape; a sine of
    amplitude a has a. frequencies: [frequencies], in cycles per step, or in cycles per unit of time of the rate.
    remainder: [features], the relevance of steps whose value is zero, which belongs to no frequency. features: names.
    """

    name: str
    relevance: Array
    amplitudes: Array
    frequencies: Array
    remainder: Array
    features: list[str]

    def plot(self) -> Figure:
        """Plot relevance and amplitudes over frequency, a panel per feature. Raises ImportError without matplotlib."""
        from lstm_explain_client import figures_of_frequencies

        return figures_of_frequencies.spectrum(
            self.name, self.features, self.frequencies, self.amplitudes, self.relevance
        )

    def to_frame(self) -> pandas.DataFrame:
        """Return a row per feature and frequency: feature, frequency, amplitude, relevance."""
        pd = imported("pandas", "to_frame")
        columns = {"amplitude": self.amplitudes, "relevance": self.relevance}
        found: pandas.DataFrame = pd.DataFrame(
            {
                "feature": np.repeat(np.array(self.features, dtype=object), len(self.frequencies)),
                "frequency": np.tile(self.frequencies, len(self.features)),
                **{column: array.T.ravel() for column, array in columns.items()},
            }
        )
        return found


@dataclass(frozen=True, eq=False)
class Spectrogram:
    """The relevance of one sample of one input by time and frequency.

    relevance, amplitudes: [windows, frequencies, features]. starts: [windows], the first step of each window; the first
    one may be negative. window: its steps. frequencies, remainder and features as in Spectrum.
    """

    name: str
    relevance: Array
    amplitudes: Array
    starts: Array
    window: int
    frequencies: Array
    remainder: Array
    features: list[str]

    def plot(self, feature: int = 0) -> Figure:
        """Plot amplitudes and relevance of a feature over time and frequency.

        Raises ImportError without matplotlib, and IndexError for a feature that does not exist.
        """
        from lstm_explain_client import figures_of_frequencies

        if not 0 <= feature < len(self.features):
            raise IndexError(f"feature {feature}, there are {len(self.features)}")
        return figures_of_frequencies.spectrogram(
            f"{self.features[feature]} of {self.name} by time and frequency",
            self.starts + self.window / 2,
            self.frequencies,
            self.amplitudes[..., feature],
            self.relevance[..., feature],
        )


@dataclass(frozen=True, eq=False)
class Series:
    """One sample of an input of numbers: values and relevance [steps, features]."""

    name: str
    values: Array
    relevance: Array
    features: list[str]


def series(result: ExplainedBatch, name: str | None, sample: int) -> Series:
    """Return the input that has a spectrum; see Shown.spectrum for the errors."""
    found = {view.name: view for view in views.inputs(result, sample)}
    if name is None:
        fitting = [view.name for view in found.values() if view.tokens is None and len(view.relevance) > 1]
        if len(fitting) != 1:
            said = f"there are {', '.join(fitting)}" if fitting else f"none of {', '.join(found)} is one"
            raise ValueError(f"name an input that is a time series: {said}")
        (name,) = fitting
    if name not in found:
        raise KeyError(f"no input {name!r} with relevance, there are {', '.join(found)}")
    view = found[name]
    if view.tokens is not None or len(view.relevance) < 2:
        raise ValueError(f"input {name!r} is no time series of numbers")
    if view.values is None:
        raise ValueError(f"the values of input {name!r} are not part of this result")
    return Series(name, view.values, view.relevance, view.features)


def positive(rate: float) -> float:
    """Return the rate, checked."""
    if not (isinstance(rate, (int, float)) and 0 < rate < float("inf")):
        raise ValueError(f"rate is {rate!r}, expected a positive number of steps per unit of time")
    return float(rate)


def spectrum(name: str, values: Array, relevance: Array, features: list[str], rate: float) -> Spectrum:
    """values, relevance: [steps, features]; see Shown.spectrum."""
    ratio, remainder = _ratio(values, relevance)
    steps = len(values)
    X, Q, w = np.fft.rfft(values, axis=0), np.fft.rfft(ratio, axis=0), _weights(steps)
    return Spectrum(
        name,
        (w[:, None] / steps) * (X * Q.conj()).real,
        (w[:, None] / steps) * np.abs(X),
        np.fft.rfftfreq(steps, 1 / rate),
        remainder,
        features,
    )


def spectrogram(
    name: str, values: Array, relevance: Array, features: list[str], rate: float, window: int
) -> Spectrogram:
    """values, relevance: [steps, features]; see Shown.spectrogram."""
    steps = len(values)
    if not isinstance(window, int) or not 2 <= window <= steps or window % 2:
        raise ValueError(f"window is {window!r}, expected an even number of steps from 2 to the signal's {steps}")
    ratio, remainder = _ratio(values, relevance)
    hop = window // 2
    starts = np.arange(-hop, steps, hop)
    places = starts[:, None] + np.arange(window)  # [windows, window]
    inside = (places >= 0) & (places < steps)
    at = np.clip(places, 0, steps - 1)
    # Hann windows at half of their length from each other add up to one.
    parts = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)) * inside
    X = np.fft.rfft(values[at] * parts[..., None], axis=1)
    Q = np.fft.rfft(ratio[at] * inside[..., None], axis=1)
    w = _weights(window)[:, None]
    return Spectrogram(
        name,
        (w / window) * (X * Q.conj()).real,
        (2 * w / window) * np.abs(X),  # the mean of a Hann window is one half
        starts,
        window,
        np.fft.rfftfreq(window, 1 / rate),
        remainder,
        features,
    )


def _ratio(values: Array, relevance: Array) -> tuple[Array, Array]:
    """Returns relevance over value, [steps, features], and the relevance [features] at values of zero."""
    values, relevance = values.astype(np.float64), relevance.astype(np.float64)
    least = ZERO * np.sqrt(np.mean(values**2, axis=0))
    divides = np.abs(values) > least
    ratio = np.where(divides, relevance / np.where(divides, values, 1.0), 0.0)
    return ratio, np.where(divides, 0.0, relevance).sum(axis=0)


def _weights(steps: int) -> Array:
    """Returns how many frequencies of the full transform each one of the real transform stands for."""
    weights = np.full(steps // 2 + 1, 2.0)
    weights[0] = 1.0
    if steps % 2 == 0:
        weights[-1] = 1.0
    return weights
