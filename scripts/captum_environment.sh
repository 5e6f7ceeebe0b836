#!/usr/bin/env bash
# captum_environment.sh DIR: makes a virtual environment with Debian's torch (for the CPU only) and Captum, in which
# `python -m bench --captum DIR/bin/python` measures the peers. torch from PyPI brings several gigabytes for GPUs.
set -euo pipefail

[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Without OpenBLAS, Debian's torch multiplies with the reference BLAS, which is slow.
export DEBIAN_FRONTEND=noninteractive
apt-get --quiet --quiet update
apt-get --quiet --quiet --yes --no-install-recommends install python3-torch python3-venv libopenblas0-pthread
/usr/bin/python3 -m venv --system-site-packages "$1"
pip() { "$1/bin/python" -m pip --quiet --disable-pip-version-check "${@:2}"; }
# torch was compiled for NumPy 1. Captum asks for a newer torch than Debian's; what is measured here works with this.
pip "$1" install --editable '.[server]' 'numpy<2' 'matplotlib<3.10' tqdm packaging 'pytest>=8.3'
pip "$1" install --no-deps captum
"$1/bin/python" -c 'import captum, torch; print("Captum", captum.__version__, "with torch", torch.__version__)'
