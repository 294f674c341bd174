#!/usr/bin/env bash
# Everything that an NVIDIA GPU can show of hwnas, in at most nine minutes a call: run it until it ends with status 0.
# Arguments are passed on to gpu_acceptance.py. HWNAS_AS_IS=python3 takes that Python as it is and installs nothing.
set -euo pipefail
if [ -n "${HWNAS_AS_IS:-}" ]; then
    cd "$(dirname "${BASH_SOURCE[0]}")/.."
    PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" exec "$HWNAS_AS_IS" scripts/gpu_acceptance.py "$@"
fi
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"
exec python scripts/gpu_acceptance.py "$@"
