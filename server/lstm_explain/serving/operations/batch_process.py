# SPDX-License-Identifier: Apache-2.0
"""Becomes `lstm-explain batch`, in a process that ends with the worker that started it, at low priority.

python -m lstm_explain.serving.operations.batch_process PARENT [ARGUMENT …]
"""

from __future__ import annotations

import os
import sys

from lstm_explain.serving.prctl import die_with_parent
from lstm_explain.serving.scheduling.background import LOW_PRIORITY


def main(parent: str, *arguments: str) -> None:
    die_with_parent()  # it stays in force in the program that takes this one's place
    if os.getppid() != int(parent):
        sys.exit("the worker has ended")
    os.nice(LOW_PRIORITY)
    os.execv(sys.executable, [sys.executable, "-m", "lstm_explain.cli", "batch", *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
