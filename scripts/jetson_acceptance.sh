#!/usr/bin/env bash
# On a Jetson: profile, search, build, compare with trtexec, and one JSON that can be sent to the project.
# Arguments are passed on to jetson_acceptance.py, which explains them (--help).
# HWNAS_AS_IS=python3 takes that Python as it is and installs nothing.
set -euo pipefail
if [ -n "${HWNAS_AS_IS:-}" ]; then
    cd "$(dirname "${BASH_SOURCE[0]}")/.."
    PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" exec "$HWNAS_AS_IS" scripts/jetson_acceptance.py "$@"
fi
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"
exec python scripts/jetson_acceptance.py "$@"
