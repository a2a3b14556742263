#!/bin/sh
# Checks deploy/, with tools of the Python package index that are fetched once into the build directory.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
tools=$target/deploy-tools/$(sha256sum "$here/requirements.txt" | cut -c1-16)
if [ ! -f "$tools/complete" ]; then
    rm -rf "$tools"
    python3 -m pip install --quiet --disable-pip-version-check --target "$tools" --requirement "$here/requirements.txt"
    touch "$tools/complete"
fi
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$tools" PATH="$tools/bin:$PATH" exec python3 "$here/check.py" "$@"
