# SPDX-License-Identifier: Apache-2.0
"""Describes a caller as the file of tokens does: a name, roles, an expiry, models and quotas."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fnmatch import fnmatchcase

EXPLAIN, MANAGE, BATCH = "explain", "manage", "batch"
ROLES = frozenset({EXPLAIN, MANAGE, BATCH})


@dataclass(frozen=True)
class Quota:
    """requests, cost: per minute. streams: open at a time. None: any number."""

    requests: int | None = None
    cost: int | None = None
    streams: int | None = None


@dataclass(frozen=True)
class Caller:
    """The owner of a token.

    expires: seconds since 1970; None: never. models: names, or patterns with `*`, of the models that the caller may
    use; empty: all.
    """

    name: str
    roles: frozenset[str]
    expires: float | None = None
    models: tuple[str, ...] = ()
    quota: Quota = Quota()

    def has_expired(self) -> bool:
        return self.expires is not None and time.time() >= self.expires

    def may_use(self, model: str) -> bool:
        return not self.models or model in self.models or any(fnmatchcase(model, pattern) for pattern in self.models)
