#!/bin/sh
# Mender update module "hwnas" (protocol v3): install as /usr/share/mender/modules/v3/hwnas, executable.
# The agent checks the bundle's own signature, builds, measures, switches, and goes back by itself where that fails.
set -eu
state="$1"
directory="${2:-}"
agent="${HWNAS_AGENT:-/usr/local/lib/hwnas/hwnas-agent.pyz}"
root="${HWNAS_SLOTS:-/var/lib/hwnas}"

slots() {
    python3 -E "$agent" slots "$@" --root "$root"
}

current() {
    readlink "$root/current" || echo none
}

case "$state" in
    NeedsArtifactReboot) echo No ;;
    SupportsRollback) echo Yes ;;
    ArtifactInstall)
        current > "$directory/tmp/before"
        slots install "$directory"/files/*.tar.gz
        ;;
    ArtifactRollback)
        # An installation that failed has gone back already.
        if [ "$(current)" != "$(cat "$directory/tmp/before")" ]; then
            slots rollback
        fi
        ;;
esac
