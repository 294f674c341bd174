#!/usr/bin/env bash
# Every check of the project: style, types, import rules, tests. Arguments are passed on to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"
# Two torch processes with two threads each slow each other down ten-fold.
export OMP_NUM_THREADS=1
ruff check .
ruff format --check .
mypy
lint-imports
exec pytest "$@"
