# SPDX-License-Identifier: Apache-2.0
"""Loads one version of a model: it is tried in the trial process first, then loaded into this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from lstm_explain.cancellation import Cancelled, CancelScope, cancel_scope
from lstm_explain.errors import Error, ModelError
from lstm_explain.graph.sandbox import skip_sandbox
from lstm_explain.repository.model_folder import Source
from lstm_explain.repository.served_model import ServedModel, load_served, memory_of
from lstm_explain.serving.trials.results import fingerprint
from lstm_explain.serving.trials.trial_runner import Trial, TrialRunner

MAX_ATTEMPTS = 3  # while the files change


@dataclass(frozen=True)
class ModelMemoryLimits:
    """model_bytes: the most that the files of one version may have. loaded_bytes: the most that all models in memory
    may take, by the estimate of `memory_of`. None: any number.
    """

    model_bytes: int | None = None
    loaded_bytes: int | None = None

    def check(self, size: int) -> None:
        """Raises Error if a model whose files have `size` bytes can never be loaded."""
        if self.model_bytes is not None and size > self.model_bytes:
            raise Error(f"the model has {size} bytes, more than --max-model-bytes allows ({self.model_bytes})")
        if self.loaded_bytes is not None and memory_of(size) > self.loaded_bytes:
            needs = f"about {memory_of(size)} bytes of memory"
            raise Error(f"the model takes {needs}, more than --max-loaded-bytes allows ({self.loaded_bytes})")


class Loader:
    """trials: None loads models without a trial, for trusted models. check_described: raises Error for a model that
    cannot be described to callers; such a model is not served. check_signature: raises Error for files that nobody
    trusted signed; they are not read.
    """

    def __init__(
        self,
        limits: ModelMemoryLimits,
        trials: TrialRunner | None = None,
        check_described: Callable[[ServedModel], object] = lambda _: None,
        check_signature: Callable[[Source], None] = lambda _: None,
    ) -> None:
        self.limits = limits
        self._trials = trials
        self._check_described = check_described
        self._check_signature = check_signature
        self._lock = threading.Lock()  # one at a time: loading takes memory and holds the interpreter

    def load(
        self,
        source: Source,
        *,
        again: bool = False,
        check: Callable[[], None] = lambda: None,
        on_trial: Callable[[Trial], None] = lambda _: None,
        before_load: Callable[[int], None] = lambda _: None,
        around_load: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> ServedModel:
        """Returns the version in memory, loaded from exactly the files that were tried.

        again, check, on_trial: see TrialRunner.result. before_load: called with the size of the files before they are
        loaded into this process. around_load: a context for that. Raises Error, OSError, and what `check` raises.
        """
        for _ in range(MAX_ATTEMPTS):
            size, mark = source.size(), fingerprint(source)
            self.limits.check(size)
            self._check_signature(source)
            if self._trials is not None:
                result = self._trials.result(source, mark, size, again=again, check=check, on_begin=on_trial)
                if not result.passed:
                    raise ModelError(result.reason)
            before_load(size)
            with self._lock, around_load():
                served = load_served(source) if self._trials is None else _load_tried(source, self._trials, size)
            self._check_described(served)
            self._check_signature(source)  # once more, because the files may have changed while they were read
            if fingerprint(source) == mark:
                return served
        raise ModelError("its files change while they are loaded")

    def record_pass(self, source: Source) -> None:
        """Records that the files at `source` are a copy of files that have passed their trial."""
        if self._trials is not None:
            self._trials.record_pass(fingerprint(source))


def _load_tried(source: Source, trials: TrialRunner, size: int) -> ServedModel:
    """Loads a version that has passed its trial, within the trial's time limit, since it may behave differently this
    time.
    """
    seconds = trials.limits.for_size(size).wall
    end = time.monotonic() + seconds

    def check() -> None:
        if time.monotonic() > end:
            raise Cancelled(ModelError(f"it was not loaded within {seconds:g} seconds (--trial-seconds)"))

    about = f"loading model {source.name} version {source.version}"
    try:
        with skip_sandbox(), cancel_scope(CancelScope(check, describe=lambda: about)):
            return load_served(source)
    except Cancelled as cancelled:
        raise cancelled.cause from None
