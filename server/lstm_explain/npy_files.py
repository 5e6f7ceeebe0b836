# SPDX-License-Identifier: Apache-2.0
"""Reads the headers of .npy files, and words NumPy's errors about them."""

from __future__ import annotations

from typing import IO, Any, NamedTuple

import numpy as np


class Header(NamedTuple):
    """What a .npy file declares before its numbers."""

    shape: tuple[int, ...]
    in_fortran_order: bool
    dtype: np.dtype[Any]


def read_header(file: IO[bytes]) -> Header:
    """Reads the header; afterwards the file is positioned at the first number. Raises ValueError, EOFError."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return Header(*read(file))


def reason(error: Exception) -> str:
    """Returns why NumPy cannot read a file. NumPy advises to allow pickles, which would execute what the file says."""
    return "it holds Python objects, expected numbers" if "allow_pickle" in str(error) else str(error)
