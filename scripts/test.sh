#!/usr/bin/env bash
# Every check of the project: style, types, import rules, tests. Arguments are passed on to pytest.
# The tests run in two processes, which take whole files in order; -n 0 runs them in one, as pytest alone does.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"
# Two torch processes with two threads each slow each other down ten-fold.
export OMP_NUM_THREADS=1
ruff check .
ruff format --check .
mypy
lint-imports
exec pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
