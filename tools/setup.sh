#!/bin/sh
# setup.sh PYTHON VENV: make the environment VENV with the versions of requirements.lock.
# Each thing that can be missing gets one line that says what to do about it.
set -eu
python=$1
venv=$2

die() { printf 'zfrepro: %s\n' "$1" >&2; exit 1; }

command -v "$python" >/dev/null 2>&1 ||
    die "'$python' was not found. Install Python 3.11 or newer, or name one: make book PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "$("$python" --version 2>&1) is too old. Install Python 3.11 or newer, or name one: make book PYTHON=python3.12"
command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || command -v clang >/dev/null 2>&1 ||
    echo "zfrepro: note: no C compiler found. Everything works; only torch.compile's faster path is off."

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
        die "this Python cannot make environments (venv or ensurepip is missing). On Debian or Ubuntu: apt install python3-venv"
    "$python" -m venv "$venv" ||
        die "could not make $venv. If it is a leftover, remove it (rm -r $venv) and try again."
fi
"$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "$venv holds an older Python. Remove it (rm -r $venv) and try again."

echo "zfrepro: installing into $venv (the first time takes some minutes and, on Linux, about 6 GB)"
"$venv/bin/python" -m pip install -q --disable-pip-version-check -c requirements.lock -e '.[book,test]' ||
    die "the install failed: the lines above say why. Run make again to continue."

# Notebooks are committed without outputs: running one in JupyterLab then changes nothing that git sees.
if [ -z "${CI:-}" ] && git rev-parse --git-dir >/dev/null 2>&1; then
    git config filter.nbstripout.clean "\"$(cd "$venv" && pwd)/bin/python\" -m nbstripout --keep-id"
    git config filter.nbstripout.smudge cat
fi
