# SPDX-License-Identifier: Apache-2.0
"""Decides what a call of a kernel does when no compiled code for its arguments is at hand: nobody waits for a compiler.

Compiling all kernels takes minutes. LSTM_EXPLAIN_KERNELS selects what happens meanwhile:

* `background` (default): other processes compile what was called (background.py) into the cache, from where later calls
  load it. Until then, the call is answered by the kernel's `meanwhile`, or raises NotCompiled, and the caller uses
  formulas in NumPy instead. The results agree up to rounding.
* `never`: the same, but nothing is compiled; what the cache holds is used.
* `wait`: the call compiles, as with Numba's own decorator. So answers are the same bits from the first one on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import numba as nb
from numba.core import caching, sigutils
from numba.core.compiler_lock import global_compiler_lock

from lstm_explain.errors import Error
from lstm_explain.kernels import background, cache_folder
from lstm_explain.kernels.background import MODE

BACKGROUND, NEVER, WAIT = "background", "never", "wait"
MODES = (BACKGROUND, NEVER, WAIT)
SECONDS_BETWEEN_LOOKS = 0.1  # into the cache's index, which a call would otherwise read each time

Kernel = TypeVar("Kernel")


class NotCompiled(Exception):  # noqa: N818 - no error: the caller has another way
    """No compiled code for these arguments is at hand yet."""


_last_without = [0]


def was_without(since: int) -> bool:
    """Returns whether this process has answered a call without compiled code since that time, in time.time_ns."""
    return _last_without[0] >= since


def mode() -> str:
    """Returns the setting. Raises Error where it is unknown."""
    chosen = os.environ.get(MODE, BACKGROUND)
    if chosen not in MODES:
        raise Error(f"{MODE} is {chosen!r}, expected {', '.join(MODES)}")
    return chosen


def nobody_waits(kernel: Kernel) -> Kernel:
    """Decorates a kernel that Numba compiles for the types that it is called with. Calls raise NotCompiled until
    compiled code is at hand.
    """
    return _prepared(kernel, (), None)


def declared(
    signatures: Sequence[Any], meanwhile: Callable[..., Any], **options: Any
) -> Callable[[Callable[..., Any]], Any]:
    """Does what `numba.njit(signatures, **options)` does, where nobody has to wait for it.

    meanwhile: answers until compiled code is at hand.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        if mode() == WAIT:
            return _compiled(function, signatures, options)
        if _folder(function) is None:
            return nb.njit(list(signatures), **options)(function)
        return _prepared(nb.njit(**options)(function), tuple(signatures), meanwhile)

    return decorate


def soon(kernel: Any) -> None:
    """Has a kernel that declares its signatures compiled before it is called."""
    waiting = kernel._compile_for_args
    if isinstance(waiting, _WithoutWaiting):
        waiting.look()


def _folder(function: Callable[..., Any]) -> Path | None:
    """Where other processes hand over what they compile."""
    return cache_folder.folder_of(Path(function.__code__.co_filename).resolve())


def _compiled(function: Callable[..., Any], signatures: Sequence[Any], options: dict[str, Any]) -> Any:
    """Compiles for the signatures, or loads what another process has compiled or is about to."""
    folder = _folder(function)
    with nullcontext() if folder is None else cache_folder.locked(folder, function.__name__):
        return nb.njit(list(signatures), **options)(function)


def _prepared(kernel: Any, signatures: Sequence[Any], meanwhile: Callable[..., Any] | None) -> Any:
    if _folder(kernel.py_func) is not None:
        # Numba calls this where no compiled code fits the arguments, and calls what it returns.
        kernel._compile_for_args = _WithoutWaiting(kernel, signatures, meanwhile)
    return kernel


class _WithoutWaiting:
    """Finds something that answers a call at once, unless calls wait. signatures: the only ones of the kernel; empty:
    any.
    """

    def __init__(self, kernel: Any, signatures: Sequence[Any], meanwhile: Callable[..., Any] | None) -> None:
        self._kernel, self._meanwhile = kernel, meanwhile
        self._signatures = [sigutils.normalize_signature(s)[0] for s in signatures]
        self._given = dict(zip(self._signatures, signatures, strict=True))
        self._looked: dict[Any, float] = {}
        self._all_missing_until = 0.0

    def __call__(self, *arguments: Any, **named: Any) -> Callable[..., Any]:
        """Raises NotCompiled."""
        if mode() == WAIT:  # asked anew, since a fork may have another mode than the process that imported the kernel
            compiled: Callable[..., Any] = type(self._kernel)._compile_for_args(self._kernel, *arguments, **named)
            return compiled
        if self._meanwhile is not None and time.monotonic() < self._all_missing_until:
            return self._without()
        types = self._declared(tuple(self._kernel.typeof_pyval(a) for a in arguments))
        found = self._load(types)
        if found is not None:
            return found
        if not self._kernel.overloads:  # to find out the types of arguments takes longer than most answers in NumPy
            self._all_missing_until = self._looked[types]
        return self._without()

    def look(self) -> None:
        """Loads what the cache holds for the declared signatures, and orders the rest, which is urgent."""
        for types in self._signatures:
            self._load(types, urgent=True)

    def _without(self) -> Callable[..., Any]:
        _last_without[0] = time.time_ns()
        if self._meanwhile is None:
            raise NotCompiled(self._kernel.__name__)
        return self._meanwhile

    def _declared(self, types: Any) -> Any:
        """Returns the signature that accepts arguments of these types."""
        convert = self._kernel.typingctx.can_convert
        for wanted in self._signatures:
            if len(wanted) == len(types) and all(
                given == kind or convert(given, kind) is not None for given, kind in zip(types, wanted, strict=True)
            ):
                return wanted
        if self._signatures:
            raise TypeError(f"{self._kernel.__name__} has no signature for ({', '.join(map(str, types))})")
        return types

    def _load(self, types: Any, *, urgent: bool = False) -> Callable[..., Any] | None:
        """Returns compiled code from memory or from the cache. Where there is none, it is ordered."""
        kernel, now = self._kernel, time.monotonic()
        if types not in kernel.overloads:
            if now < self._looked.get(types, 0.0):
                return None
            signature = self._given.get(types, types)
            with global_compiler_lock:
                if types not in kernel.overloads and not self._load_from_cache(signature):
                    self._looked[types] = now + SECONDS_BETWEEN_LOOKS
                    if mode() == BACKGROUND:
                        # those that declare their signatures are compiled when their module is imported
                        what = ("", None) if self._signatures else (kernel.__name__, signature)
                        background.order(kernel.__module__, *what, urgent=urgent)
                    return None
                if self._signatures and len(kernel.overloads) == len(self._signatures):
                    kernel.disable_compile()  # calls convert their arguments from now on, without asking
        code: Callable[..., Any] = kernel.overloads[types].entry_point
        return code

    def _load_from_cache(self, signature: Any) -> bool:
        """Does what Numba's `compile` does before it compiles."""
        kernel = self._kernel
        compiled = kernel._cache.load_overload(signature, kernel.targetctx)
        if compiled is None:
            return False
        kernel.targetctx.insert_user_function(compiled.entry_point, compiled.fndesc, [compiled.library])
        kernel.add_overload(compiled)
        return True


_save = caching.IndexDataCacheFile.save


def _save_alone(self: Any, key: Any, data: Any) -> None:
    """Numba reads the index of a kernel's compiled versions, adds one and writes it: two processes that do so at a time
    would lose one, or find one's code under the other's name.
    """
    with cache_folder.locked(Path(self._cache_path)):
        _save(self, key, data)


caching.IndexDataCacheFile.save = _save_alone
