#!/usr/bin/env bash
# Debian packages that some tests use, and nothing else does; without them those tests skip and say so.
#   chromium                 opens the report as a browser shows it
#   dataset-fashion-mnist    the full training set, to which the embedded sample is compared
#   mender-artifact, rauc    read, or make, the exports of bundles (with squashfs-tools)
#   openssh-server           lets workers be started over SSH on the loopback interface; it is not started as a service
# With the argument arm64-board, also what scripts/arm64_board.sh makes an emulated board with, for slow tests:
#   debootstrap, qemu-user-static
set -euo pipefail
packages=()
command -v chromium >/dev/null || packages+=(chromium)
[ -d /usr/share/datasets/fashion-mnist ] || packages+=(dataset-fashion-mnist)
command -v mender-artifact >/dev/null || packages+=(mender-artifact)
command -v rauc >/dev/null || packages+=(rauc)
command -v mksquashfs >/dev/null || packages+=(squashfs-tools)
command -v /usr/sbin/sshd >/dev/null || packages+=(openssh-client openssh-server)
if [ "${1:-}" = arm64-board ]; then
    command -v debootstrap >/dev/null || packages+=(debootstrap)
    command -v qemu-aarch64-static >/dev/null || packages+=(qemu-user-static)
fi
if [ ${#packages[@]} -gt 0 ]; then
    # Debian starts what it installs, unless this program says no.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
        chmod +x /usr/sbin/policy-rc.d
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi
