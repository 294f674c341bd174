#!/usr/bin/env bash
# A CIFAR-10 supernet on a GPU, and whether it is what it should be: the largest subnet at 95.5 %, the smallest at 93 %,
# ten random ones within 0.5 points of training each alone for as many image passes; and Kendall's tau over fifteen.
# Run it again after any interruption, or while it ends with status 75 (MINUTES are over): it goes on.
#
#   scripts/train_cifar10_gpu.sh [--dry-run]     --dry-run: everything with hardly any training, on a CPU as well
#   OUT         directory of it all (default: runs/cifar10-gpu)
#   DATA        default: cifar10, which is downloaded; else a folder or parquet file
#   DATA_ROOT   where CIFAR-10's files lie, if they are on this machine
#   MINUTES     of each of the two comparisons in one call (default: no limit)
set -euo pipefail
dry_run=${1:-}
source "$(dirname "${BASH_SOURCE[0]}")/_setup.sh"
[ -z "$dry_run" ] || [ "$dry_run" = --dry-run ] || fail "unknown argument '$dry_run'; there is only --dry-run."

out=${OUT:-runs/cifar10-gpu}
config=docs/cifar10-small-gpu.json
data=(--data "${DATA:-cifar10}" ${DATA_ROOT:+--data-root "$DATA_ROOT"})
fetch=()
[ -n "${DATA:-}${DATA_ROOT:-}" ] || fetch=(--download)
random=(--alone 10 --subnets 30)
stratified=(--alone 15 --seeds 2 --subnets 2)
if [ -n "$dry_run" ]; then
    out=$out-dry-run
    random=(--alone 2 --subnets 2)
    stratified=(--alone 2 --seeds 2 --subnets 2)
    mkdir -p "$out"
    python - "$config" "$out/settings.json" <<'PYTHON'
import json
import sys
from pathlib import Path

settings = json.loads(Path(sys.argv[1]).read_text())
settings |= {"epochs": 0.05, "full_epochs": 0.02, "batch_size": 32, "learning_rate": 0.02, "precision": "fp32"}
settings |= {"warmup_epochs": 0.01}
Path(sys.argv[2]).write_text(json.dumps(settings))
PYTHON
    config=$out/settings.json
fi
bench=(python scripts/bench_supernet.py --supernet "$out/supernet" "${data[@]}" --together ${MINUTES:+--until "$MINUTES"} --json)

hwnas train --out "$out/supernet" --space mobilenet_v3/small "${data[@]}" "${fetch[@]}" --config "$config"
status=0
"${bench[@]}" "${random[@]}" --draw random --out "$out/random" --aims 95.5 93 0.5 || status=$?
[ "$status" -eq 0 ] || [ "$status" -eq 3 ] || exit "$status" # 3: an aim is missed; the next comparison goes on
"${bench[@]}" "${stratified[@]}" --out "$out/stratified"
exit "$status"
