#!/usr/bin/env bash
# Debian packages that some tests use, and nothing else does; without them those tests skip and say so.
#   chromium                 opens the report as a browser shows it
#   dataset-fashion-mnist    the full training set, to which the embedded sample is compared
set -euo pipefail
packages=()
command -v chromium >/dev/null || packages+=(chromium)
[ -d /usr/share/datasets/fashion-mnist ] || packages+=(dataset-fashion-mnist)
if [ ${#packages[@]} -gt 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi
