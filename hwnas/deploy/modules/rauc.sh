#!/bin/sh
# Full custom handler of a RAUC bundle that carries a bundle of hwnas beside this file.
# The agent checks the bundle's own signature, builds, measures, switches, and goes back by itself where that fails.
set -eu
agent="${HWNAS_AGENT:-/usr/local/lib/hwnas/hwnas-agent.pyz}"
root="${HWNAS_SLOTS:-/var/lib/hwnas}"
exec python3 -E "$agent" slots install "$(dirname "$0")"/*.tar.gz --root "$root"
