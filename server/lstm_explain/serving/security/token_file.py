# SPDX-License-Identifier: Apache-2.0
"""Parses a file of tokens. Errors name the line, and repeat no content but keys that cannot be secrets.

There are two forms. A file whose first line (after comments) is `tokens:` is YAML, with an entry per token:

    tokens:
      - name: the dashboard
        token: u3fJ0v7qXx0r5m8QH2d9s1kT4bY6wZ8n     # or sha256: and the token's SHA-256 in hexadecimal digits
        roles: [explain]
        expires: "2027-03-31T00:00:00Z"             # optional
        models: [sentiment, "discharge-*"]          # optional
        quota: {requests_per_minute: 600, cost_per_minute: 100000, streams: 4}    # optional, and each of them is

In any other file, a line is `TOKEN ROLE[,ROLE] [NAME]`; empty lines and lines that begin with # are ignored. Instead of
the token, its hash may be given as `sha256:` and 64 hexadecimal digits, so that the file holds no secret.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lstm_explain.errors import Error, ModelError
from lstm_explain.repository.yaml_reader import read_yaml
from lstm_explain.serving.security.callers import ROLES, Caller, Quota

log = logging.getLogger(__name__)

MIN_TOKEN_LENGTH = 16  # characters; a shorter token can be guessed
MAX_NAME_LENGTH = 128
MAX_COUNTED = 2000  # names with quotas
_HASH, _TOKEN = re.compile(r"[0-9a-fA-F]{64}"), re.compile(r"[\x21-\x7e]+")
_IS_YAML = re.compile(r"(?:[ \t]*(?:#[^\n]*|---[ \t]*)?\r?\n)*tokens:[ \t]*(?:#[^\n]*)?(?:\r?\n|$)")
_WORD = re.compile(r"[a-z_]{1,15}")  # shorter than a token should be, so an error may repeat such a key
_MAX_KEY_LENGTH = 24  # of a key that an error repeats because it resembles a known one
NOT_YAML = "this is not the YAML that is expected; tokens and dates are text in quotes"


@dataclass(frozen=True)
class TokenEntry:
    """One token of the file; `digest` is its SHA-256."""

    digest: bytes
    caller: Caller


class _QuotaConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    cost_per_minute: Annotated[int, Field(ge=1)] | None = None
    streams: Annotated[int, Field(ge=1)] | None = None


class _EntryConfig(BaseModel):
    """An entry of the YAML form."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)
    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)]
    token: str | None = None
    sha256: str | None = None
    roles: Annotated[list[Literal["explain", "manage", "batch"]], Field(min_length=1)]
    expires: str | None = None
    models: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = None
    quota: _QuotaConfig = _QuotaConfig()

    @field_validator("name")
    @classmethod
    def _is_printable(cls, value: str) -> str:
        if not value.isprintable() or value != value.strip():
            raise ValueError("must be printable, without spaces around it")
        return value

    @field_validator("expires")
    @classmethod
    def _is_a_moment(cls, value: str | None) -> str | None:
        if value is not None:
            moment(value)
        return value

    @model_validator(mode="after")
    def _has_one_token(self) -> Self:
        if (self.token is None) == (self.sha256 is None):
            raise ValueError("expected either `token` or `sha256`")
        return self

    def entry(self, line: int) -> TokenEntry:
        quota = Quota(self.quota.requests_per_minute, self.quota.cost_per_minute, self.quota.streams)
        expires = None if self.expires is None else moment(self.expires)
        caller = Caller(self.name, frozenset(self.roles), expires, tuple(self.models or ()), quota)
        digest = _digest(self.token, line) if self.token is not None else _hash(self.sha256 or "", line)
        return TokenEntry(digest, caller)


def parse(text: str) -> tuple[TokenEntry, ...]:
    """Parses the file. Raises Error."""
    entries = tuple(_yaml_entries(text) if _IS_YAML.match(text) else _plain_entries(text))
    if not entries:
        raise Error("--tokens: the file has no token")
    counted = {entry.caller.name for entry in entries if entry.caller.quota != Quota()}
    if len(counted) > MAX_COUNTED:
        raise Error(f"--tokens: {len(counted)} names with quotas, at most {MAX_COUNTED} are allowed")
    if len({entry.digest for entry in entries}) < len(entries):
        raise Error("--tokens: a token occurs twice")
    return entries


def moment(text: str) -> float:
    """Returns the seconds since 1970 of a time with its offset from UTC, as in RFC 3339. Raises ValueError."""
    problem = "expected a time with its offset, such as '2027-03-31T00:00:00Z'"
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(problem) from None
    if found.tzinfo is None:
        raise ValueError(problem)
    return found.timestamp()


def _plain_entries(text: str) -> Iterator[TokenEntry]:
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split(maxsplit=2)
        if not words or words[0].startswith("#"):
            continue
        token, roles = words[0], frozenset(words[1].split(",")) if len(words) > 1 else frozenset()
        name = words[2].strip() if len(words) > 2 else f"line {number}"
        if not roles or not roles <= ROLES:
            expected = f"TOKEN ROLE[,ROLE] [NAME] with the roles {', '.join(sorted(ROLES))}"
            raise _error(number, f"expected {expected}, or `tokens:` as the first line of a file in YAML")
        hashed = token.startswith("sha256:")
        digest = _hash(token.removeprefix("sha256:"), number) if hashed else _digest(token, number)
        yield TokenEntry(digest, Caller(name, roles))


def _yaml_entries(text: str) -> Iterator[TokenEntry]:
    try:
        root, content = read_yaml(text, "")
    except ModelError as error:  # its message may repeat a token
        number = str(error).split(":")[1]
        raise _error(int(number) if number.isdigit() else 1, NOT_YAML) from None
    if set(content) != {"tokens"} or not isinstance(content["tokens"], list):
        raise _error(1, "expected `tokens:` with a list of entries, and no other key")
    assert isinstance(root, yaml.MappingNode)
    for node, values in zip(root.value[0][1].value, content["tokens"], strict=True):
        line = node.start_mark.line + 1
        try:
            yield _EntryConfig.model_validate(values).entry(line)
        except ValidationError as error:
            raise _error(line, _first_problem(error)) from None


def _first_problem(error: ValidationError) -> str:
    """Describes an unknown key, if there is one: a key that is missing may be that key, misspelled."""
    problems: Any = error.errors(include_url=False, include_input=False, include_context=False)
    problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
    where = ".".join(str(part) for part in problem["loc"])
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        *above, key = problem["loc"]
        return _unknown_key(key, _QuotaConfig if above else _EntryConfig, "".join(f" of {part}" for part in above))
    return f"{where}: {message}" if where else message


def _unknown_key(key: object, config: type[BaseModel], of: str) -> str:
    """Names the key if it is a word or resembles a known key. Any other may be a token in the wrong place."""
    known, text = list(config.model_fields), str(key)
    near = get_close_matches(text, known, 1) if len(text) <= _MAX_KEY_LENGTH else []
    named = f" {text!r}" if near or _WORD.fullmatch(text) else ""
    suggestion = f"; did you mean {near[0]!r}? The" if near else "; the"
    return f"unknown key{named}{suggestion} keys{of} are {', '.join(known)}"


def _hash(digits: str, line: int) -> bytes:
    """Raises Error."""
    if not _HASH.fullmatch(digits):
        raise _error(line, "a SHA-256 hash has 64 hexadecimal digits")
    return bytes.fromhex(digits)


def _digest(token: str, line: int) -> bytes:
    """Raises Error."""
    if not _TOKEN.fullmatch(token):
        raise _error(line, "a token consists of printable ASCII characters without spaces")
    if len(token) < MIN_TOKEN_LENGTH:
        log.warning("the token in line %d has fewer than %d characters and can be guessed", line, MIN_TOKEN_LENGTH)
    return hashlib.sha256(token.encode()).digest()


def _error(line: int, problem: str) -> Error:
    return Error(f"--tokens: line {line}: {problem}")
