#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The Debian packages that some tests take. A test whose packages are not there skips and says so; this script
# installs what it can, and where it cannot (no apt-get, not root, no network) says so and goes on.
set -euo pipefail

packages=(
    # client/cpp
    cmake g++ pkg-config libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc libssl-dev
    nlohmann-json3-dev libgtest-dev
    # tests/web
    chromium chromium-driver
)

if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "$0: no apt-get, or not root; nothing is installed: ${packages[*]}" >&2
    exit 0
fi
# Said of a package that is there only: "installed".
missing=()
for package in "${packages[@]}"; do
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
        missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
export DEBIAN_FRONTEND=noninteractive
{ apt-get --quiet --quiet update &&
    apt-get --quiet --quiet --yes --no-install-recommends -o DPkg::Lock::Timeout=300 install "${missing[@]}"; } ||
    echo "$0: could not be installed: ${missing[*]}" >&2
