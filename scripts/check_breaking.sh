#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Whether the protos still read what callers of an earlier commit send. Default: the last commit, and the one before it
# (on a clean checkout the last commit is what is checked).
#
#     scripts/check_breaking.sh [COMMIT …]
#
# Exit code 0: nothing breaks, or there is nothing to compare with (said on stderr); 100: buf names what breaks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -d .venv/bin ] && PATH="$PWD/.venv/bin:$PATH"
[ $# -gt 0 ] || set -- HEAD HEAD~1
old=$(mktemp -d)
trap 'rm -rf "$old"' EXIT
for commit in "$@"; do
    if ! git rev-parse --quiet --verify "$commit:proto/buf.yaml" >/dev/null 2>&1; then
        echo "nothing to compare with: there is no $commit with protos here" >&2
        continue
    fi
    rm -rf "${old:?}"/*
    git archive "$commit" proto | tar -x -C "$old"
    buf breaking proto --against "$old/proto"
    echo "nothing breaks since $(git rev-parse --short "$commit")"
done
