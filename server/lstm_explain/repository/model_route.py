# SPDX-License-Identifier: Apache-2.0
"""Which version of a model answers requests that name none: the default version, and a canary that gets a share.

The owner states it in the model.yaml of the model's folder (`default_version`, `canary`). A caller who changes it while
the model is served does so in ROUTE next to it, which takes precedence; deleting that file undoes all such changes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from lstm_explain.durable_files import write_text
from lstm_explain.errors import ModelError
from lstm_explain.repository.model_folder import CONFIG, ROUTE
from lstm_explain.repository.model_yaml import read_config
from lstm_explain.repository.route_config import RouteConfig
from lstm_explain.repository.yaml_reader import read_yaml

_WHOLE = 1 << 64


@dataclass(frozen=True)
class Route:
    """default: the default version; None: the newest that is ready. canary: the version that gets `share` of the
    requests that name no version; None: there is none. previous: the default version before the last change of it.
    """

    default: int | None = None
    canary: int | None = None
    share: float = 0.0
    previous: int | None = None

    def takes_canary(self, key: str) -> bool:
        """Returns whether a request gets the canary. Equal keys get equal answers, in every process and on every
        replica; different ones are spread evenly.
        """
        if self.canary is None or self.share <= 0.0:
            return False
        return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) < self.share * _WHOLE

    def __str__(self) -> str:
        default = "newest" if self.default is None else str(self.default)
        return f"default {default}" + ("" if self.canary is None else f", canary {self.canary} at {self.share:g}")


class _RouteFile(RouteConfig):
    """The content of ROUTE."""

    previous_version: int | None = Field(default=None, ge=1)


def read_route(folder: Path) -> Route:
    """Returns the route of the model in the folder. Raises ModelError for a file that cannot be used, OSError."""
    path = folder / ROUTE
    if not path.is_file():
        return _route(read_config(folder / CONFIG).config)
    _, content = read_yaml(path.read_text(encoding="utf-8"), ROUTE)
    try:
        found = _RouteFile.model_validate({} if content is None else content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise ModelError(f"{ROUTE}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error
    return _route(found, found.previous_version)


def write_route(folder: Path, route: Route) -> None:
    """Writes ROUTE, as a whole or not at all. Raises OSError."""
    lines = [
        "# Written by the server; takes precedence over model.yaml. Delete it to undo what callers have changed.\n"
    ]
    if route.default is not None:
        lines.append(f"default_version: {route.default}\n")
    if route.canary is not None:
        lines.append(f"canary: {{version: {route.canary}, share: {route.share!r}}}\n")
    if route.previous is not None:
        lines.append(f"previous_version: {route.previous}\n")
    write_text(folder / ROUTE, "".join(lines))


def _route(config: RouteConfig, previous: int | None = None) -> Route:
    canary = config.canary
    return Route(
        config.default_version, None if canary is None else canary.version, canary.share if canary else 0.0, previous
    )
