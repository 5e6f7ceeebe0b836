#!/usr/bin/env bash
# alternatives_environment.sh DIR [HEADERS]: compiles the rivals of our kernels (bench/alternatives/sources) into DIR,
# where `python -m bench --part alternatives --rivals DIR` finds them. Needs .venv (`make .venv/.dev`) and g++ 11 or
# newer; nanobind and Cython come from PyPI.
# HEADERS: the folder with onnxruntime_c_api.h, as ONNX Runtime's release archives have it under include/; without it
# there is no custom operator, since the Python package has no headers.
set -euo pipefail

[ $# -ge 1 ] || { echo "usage: $0 DIR [HEADERS]" >&2; exit 2; }
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
sources="$here/bench/alternatives/sources"
"$here/.venv/bin/python" -m venv "$1/tools"
"$1/tools/bin/python" -m pip --quiet --disable-pip-version-check install nanobind cython
read -r headers suffix nanobind < <("$1/tools/bin/python" -c '
import nanobind, pathlib, sysconfig
print(sysconfig.get_path("include"), sysconfig.get_config_var("EXT_SUFFIX"), pathlib.Path(nanobind.__file__).parent)')

# -ffast-math is left out where it is linked: there it would have the whole process round tiny numbers to zero.
build() {
    target="$1"; source="$2"; shift 2
    g++ -O3 -march="$processor" -ffast-math -fPIC -I "$sources" -I "$headers" "$@" -c "$source" -o "$target.o"
    objects+=("$target.o")
}
link() { g++ -shared "${objects[@]}" -o "$1"; objects=(); }
objects=() processor=native

bind=(-std=c++20 -DNDEBUG -fvisibility=hidden -I "$nanobind/include" -I "$nanobind/ext/robin_map/include")
with_nanobind() {
    mkdir -p "$1"
    build "$1/nanobind" "$nanobind/src/nb_combined.cpp" "${bind[@]}"
    build "$1/with_nanobind" "$sources/with_nanobind.cpp" "${bind[@]}"
    link "$1/with_nanobind$suffix"
}
if [ "$(uname -m)" = x86_64 ]; then processor=x86-64 with_nanobind "$1/every"; fi  # as a wheel has to be
with_nanobind "$1"

"$1/tools/bin/cython" -3 --cplus "$sources/with_cython.pyx" -o "$1/with_cython.cpp"
build "$1/with_cython" "$1/with_cython.cpp" -std=c++20
link "$1/with_cython$suffix"

if [ $# -ge 2 ]; then
    build "$1/as_operator" "$sources/as_operator.cpp" -std=c++20 -I "$2"
    link "$1/as_operator.so"
fi
versions="$("$1/tools/bin/python" -c '
from importlib.metadata import version
print("Cython", version("cython") + ", nanobind", version("nanobind"))')"
echo "g++ $(g++ -dumpfullversion), $versions" | tee "$1/versions"
