#!/usr/bin/env bash
# Time from starting the binary to "ready" on the example, and the resident memory of the process when idle.
# usage: [GANTRY=BINARY] benches/up.sh [RUNS]     (default: the release build, 5 runs; prints the median and the spread)
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-5}
if [ -z "${GANTRY:-}" ]; then
  cargo build --release --quiet
  GANTRY=${CARGO_TARGET_DIR:-target}/release/gantry
fi
gantry=$GANTRY
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 - "$gantry" "$runs" "$work" <<'PY'
import json, os, signal, statistics, subprocess, sys, time

gantry, runs, work = sys.argv[1], int(sys.argv[2]), sys.argv[3]

def resident_mb(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))

ready, memory, again = [], [], []
for run in range(runs):
    for label, times in (("first", ready), ("second", again)):
        command = [gantry, "up", "examples/shop/overlays/dev", "--data-dir", f"{work}/{run}", "--ports", "auto", "--output", "json"]
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            for line in process.stdout:
                if json.loads(line).get("ready"):
                    times.append(time.monotonic() - began)
                    break
            else:
                sys.exit("up ended before it was ready")
            if label == "first":
                time.sleep(8)
                memory.append(resident_mb(process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)

def row(what, values, unit, bound):
    print(f"{what:<44} {statistics.median(values):8.2f} {unit}   ({min(values):.2f} to {max(values):.2f}, {len(values)} runs; at most {bound})")

row("up to ready, empty state", ready, "s ", "2 s")
row("up to ready, state of the run before", again, "s ", "2 s")
row("resident memory, everything on, idle 8 s", memory, "MB", "100 MB")
print(f"{'binary':<44} {os.path.getsize(gantry) / 2**20:8.2f} MB   (at most 80 MB)")
PY
