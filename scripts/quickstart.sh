#!/usr/bin/env bash
# The whole of hwnas on this machine's CPU: profile, search under a budget, re-measure, export, benchmark, report.
# Run it again after an interruption: it goes on where it stopped. Arguments are passed on to `hwnas run`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"
exec hwnas run --name quickstart --target host-cpu --space mobilenet_v3/small --minutes 3 "$@"
