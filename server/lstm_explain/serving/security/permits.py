# SPDX-License-Identifier: Apache-2.0
"""What one caller may do: checked when a call begins, and again for every request of a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from lstm_explain.serving.errors import Expired, ModelForbidden, OverQuota, Unauthenticated
from lstm_explain.serving.security.callers import Caller
from lstm_explain.serving.security.quotas import Quotas

RETRY_STREAM = 1.0  # seconds after which a caller with too many streams may try again


class Permit:
    """Allows everything to everybody, where the server has no file of tokens."""

    name = ""

    def allow(self, model: str) -> None:
        """Allows the use of a model. Raises Unauthenticated, ModelForbidden."""

    def begin_request(self, model: str) -> None:
        """Allows a request for an explanation or a prediction, and counts it. Raises Unauthenticated, ModelForbidden,
        OverQuota.
        """

    def pay(self, cost: int) -> None:
        """Counts the cost of a request. Raises OverQuota."""

    @contextmanager
    def stream(self) -> Iterator[None]:
        """A context for an open stream. Raises OverQuota."""
        yield

    def sees(self, model: str) -> bool:
        """Returns whether lists show the model."""
        return True


ANYBODY = Permit()


class CallerPermit(Permit):
    """current: returns the caller as the file of tokens describes it now, or None if it has lost its token."""

    def __init__(self, caller: Caller, current: Callable[[], Caller | None], quotas: Quotas) -> None:
        self.name = caller.name
        self._current = current
        self._quotas = quotas

    def allow(self, model: str) -> None:
        self._allowed(model)

    def begin_request(self, model: str) -> None:
        most = self._allowed(model).quota.requests
        if most is not None and (wait := self._quotas.add_request(self.name, most)):
            raise OverQuota(f"the token {self.name!r} may make {most} requests per minute", "requests", wait, self.name)

    def pay(self, cost: int) -> None:
        caller = self._current()
        most = None if caller is None else caller.quota.cost
        if most is not None and (wait := self._quotas.add_cost(self.name, cost, most)):
            problem = f"the token {self.name!r} has used its cost of {most} per minute; this request costs {cost}"
            raise OverQuota(problem, "cost", wait, self.name)

    @contextmanager
    def stream(self) -> Iterator[None]:
        caller = self._current()
        most = None if caller is None else caller.quota.streams
        if most is None:
            yield
            return
        if not self._quotas.open_stream(self.name, most):
            raise OverQuota(f"the token {self.name!r} may have {most} open streams", "streams", RETRY_STREAM, self.name)
        try:
            yield
        finally:
            self._quotas.close_stream(self.name)

    def sees(self, model: str) -> bool:
        caller = self._current()
        return caller is not None and caller.may_use(model)

    def _allowed(self, model: str) -> Caller:
        caller = self._current()
        if caller is None:
            raise Unauthenticated(f"the token {self.name!r} has been withdrawn", self.name)
        check_expiry(caller)
        if not caller.may_use(model):
            raise ModelForbidden(f"the token {self.name!r} may not use model {model!r}", model, self.name)
        return caller


def check_expiry(caller: Caller) -> None:
    """Raises Expired."""
    if caller.expires is not None and caller.has_expired():
        when = datetime.fromtimestamp(caller.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        raise Expired(f"the token {caller.name!r} has expired on {when}", caller.name)
