#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# captum_environment.sh DIR: makes a virtual environment with current torch and Captum from PyPI, in which
# `python -m bench --captum DIR/bin/python` measures the peers. It takes some 6 GB, most of it torch's parts for GPUs.
set -euo pipefail

[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python3 -m venv "$1"
pip() { "$1/bin/python" -m pip --quiet --disable-pip-version-check "${@:2}"; }
pip "$1" install --editable '.[server]' torch tqdm packaging 'matplotlib' 'pytest>=8.3'
pip "$1" install --no-deps captum  # which asks for an older NumPy than ours
"$1/bin/python" -c 'import captum, torch; print("Captum", captum.__version__, "with torch", torch.__version__)'
