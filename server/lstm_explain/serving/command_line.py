# SPDX-License-Identifier: Apache-2.0
"""Reads the settings of a server from the command line and from environment variables."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from lstm_explain.errors import Error
from lstm_explain.kernels.background import MODE
from lstm_explain.kernels.cache import COMPILED_FOR
from lstm_explain.serving.settings import ENV_PREFIX, WEB_ADDRESS, Settings


def read_settings(arguments: Sequence[str]) -> Settings:
    """Returns the settings, with the shares of memory filled in. Raises Error with the first problem, in one line."""
    try:
        return CliApp.run(Settings, cli_args=complete(arguments)).with_shares()
    except ValidationError as error:
        raise Error(_first_problem(error)) from error
    except SettingsError as error:
        raise Error(str(error)) from error


def complete(arguments: Sequence[str]) -> list[str]:
    """Returns the command line with the default address where `--web` has none."""
    words = list(arguments)
    for i, word in enumerate(words):
        if word == "--web" and (i + 1 == len(words) or words[i + 1].startswith("-")):
            words[i] = f"--web={WEB_ADDRESS}"
    return words


def unknown_variables() -> list[str]:
    """Returns the environment variables that look like settings but are not; most likely they are misspelt."""
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields} | {COMPILED_FOR, MODE}
    return sorted(name for name in os.environ if name.startswith(ENV_PREFIX) and name not in known)


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    return f"--{'.'.join(str(part) for part in problem['loc']).replace('_', '-')}: {message}"
