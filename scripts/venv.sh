#!/bin/sh
# Makes the virtual environment .venv with pip in it, or says what is missing. Used by the Makefile.
#
# Debian splits pip out of python3's venv module (package python3-venv). Where that is not installed, pip's wheel is
# taken from Debian's python3-pip-whl, which needs no root; failing that the user is told what to install.
set -eu
python=${PYTHON:-python3}
venv=${1:-.venv}

if ! command -v "$python" >/dev/null; then
    echo "mpemu: $python is not installed: apt install python3" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "mpemu: Python 3.11 or newer is needed, this is $("$python" --version); another one: make PYTHON=python3.12" >&2
    exit 1
fi
if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    exec "$python" -m venv "$venv"
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch"
wheel=
if (cd "$scratch" && apt-get download -qq python3-pip-whl && dpkg-deb -x python3-pip-whl_*.deb .) 2>/dev/null; then
    wheel=$(find "$scratch" -name 'pip-*.whl' | head -n 1)
fi
if [ -z "$wheel" ]; then
    echo "mpemu: Python's venv module has no pip on this system: apt install python3-venv" >&2
    exit 1
fi
"$python" -m venv --without-pip "$venv"
"$venv/bin/python" "$wheel/pip" install --quiet --no-index --find-links "$(dirname "$wheel")" pip
