#!/bin/sh
# Checks deploy/, with tools of the Python package index and of Debian that are fetched once into the build directory.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
tools=$target/deploy-tools/$(sha256sum "$here/requirements.txt" | cut -c1-16)
if [ ! -f "$tools/complete" ]; then
    rm -rf "$tools"
    python3 -m pip install --quiet --disable-pip-version-check --target "$tools" --requirement "$here/requirements.txt"
    touch "$tools/complete"
fi
# Prometheus' own judge of rules, from the path or from Debian's package, which is unpacked and not installed.
if ! command -v promtool >/dev/null && [ ! -x "$tools/bin/promtool" ]; then
    package=$(mktemp -d)
    (cd "$package" && { apt-get download --quiet prometheus || { apt-get update --quiet && apt-get download --quiet prometheus; }; } \
        && dpkg-deb --extract prometheus_*.deb .) >"$package/log" 2>&1 || { cat "$package/log" >&2; exit 1; }
    mv "$package/usr/bin/promtool" "$tools/bin/promtool"
    rm -rf "$package"
fi
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$tools" PATH="$tools/bin:$PATH" exec python3 "$here/check.py" "$@"
