#!/usr/bin/env bash
# Memory of an operator that does nothing: the real Kopf, and `gantry kopf run` (engine and worker process together).
# Ends with 1 when ours takes more than its bound.
# usage: [GANTRY=BINARY] [GANTRY_TEST_PYTHON=PYTHON-WITH-KOPF] benches/kopf.sh [SECONDS]   (default: the release build)
set -euo pipefail
cd "$(dirname "$0")/.."
idle=${1:-8}
if [ -z "${GANTRY:-}" ]; then
  cargo build --release --quiet -p gantry
  GANTRY=${CARGO_TARGET_DIR:-target}/release/gantry
fi
gantry=$(realpath "$GANTRY")
python=${GANTRY_TEST_PYTHON:-python3}
"$python" -c 'import kopf' 2>/dev/null || { echo "skipped: kopf not found in $python (set GANTRY_TEST_PYTHON)"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp crates/gantry/tests/fixtures/kopf/{kustomization,definition}.yaml "$work"
cat > "$work/noop.py" <<'PY'
import kopf


@kopf.on.create('boxes')
def noop(**_):
    pass
PY
"$python" - "$gantry" "$python" "$work" "$idle" <<'PY'
import json, os, signal, subprocess, sys, time

BOUND_MB = 45

gantry, python, work, idle = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])


def tree(pid):
    yield pid
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as children:
            for child in children.read().split():
                yield from tree(int(child))


def memory_mb(pid, field):
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        return next(int(line.split()[1]) / 1024 for line in rollup if line.startswith(field + ":"))


def measure(command):
    environment = dict(os.environ, KUBECONFIG=kubeconfig, GANTRY_KOPF_PYTHON=python)
    with open(f"{work}/log", "w") as log:
        process = subprocess.Popen(command + ["run", "-A", "--standalone", f"{work}/noop.py"], env=environment,
                                   stdout=log, stderr=log)
    try:
        time.sleep(idle)
        if process.poll() is not None:
            sys.exit(open(f"{work}/log").read())
        pids = list(tree(process.pid))
        return [(sum(memory_mb(pid, field) for pid in pids)) for field in ("Rss", "Pss")], len(pids)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


up = subprocess.Popen([gantry, "up", work, "--data-dir", f"{work}/state", "--ports", "auto", "--output", "json"],
                      stdout=subprocess.PIPE, text=True)
try:
    for line in up.stdout:
        report = json.loads(line)
        if report.get("ready"):
            kubeconfig = report["kubeconfig"]
            break
    else:
        sys.exit("up ended before it was ready")
    theirs, count = measure([python, "-m", "kopf"])
    print(f"kopf                {theirs[0]:6.1f} MB resident, {theirs[1]:6.1f} MB proportional, {count} process(es)")
    ours, count = measure([gantry, "kopf"])
    print(f"gantry kopf run     {ours[0]:6.1f} MB resident, {ours[1]:6.1f} MB proportional, {count} process(es)")
    print(f"ratio               {ours[0] / theirs[0]:6.2f}             {ours[1] / theirs[1]:6.2f}")
    if ours[0] > BOUND_MB:
        sys.exit(f"gantry kopf run takes {ours[0]:.1f} MB resident, at most {BOUND_MB} MB is its bound")
finally:
    up.send_signal(signal.SIGTERM)
    up.wait(timeout=60)
PY
