# SPDX-License-Identifier: Apache-2.0
"""Generates what every client has of a method, from one description: a type, its conversion to the wire, its words.

`description.py` reads method.proto and the registry; every other module writes the files of one language, in the idiom
of that language. A new method or parameter needs no change here; a new kind of parameter (a list of numbers, say) needs
one in each language.
"""

from __future__ import annotations

from scripts.generate_methods import cpp, docs, go, java, page, python, rust, typescript
from scripts.generate_methods.description import read

TEMPLATES = (python, go, java, rust, typescript, cpp, page, docs)


def generated() -> dict[str, str]:
    """The text of every generated file, by its path in the repository."""
    description = read()
    return {path: text for template in TEMPLATES for path, text in template.files(description).items()}
