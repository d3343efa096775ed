#!/usr/bin/env bash
# From a step of load to the scale decision as a watch of the Deployment sees it, on the example.
# usage: [GANTRY=BINARY] benches/scale.sh [RUNS]     (default: the release build, 5 runs; needs kubectl)
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-5}
command -v kubectl >/dev/null || { echo "skipped: kubectl not found"; exit 0; }
if [ -z "${GANTRY:-}" ]; then
  cargo build --release --quiet
  GANTRY=${CARGO_TARGET_DIR:-target}/release/gantry
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat > "$work/step.yaml" <<'YAML'
name: a step
arrivals: {stages: [{duration: 0s, rate: 120/s}, {duration: 20s, rate: 120/s}]}
headers: {Host: shop.localhost}
requests:
- {name: list products, path: /products, weight: 6}
- {name: one product, path: '/products/{1..5}', weight: 3}
YAML
python3 - "$GANTRY" "$runs" "$work" <<'PY'
import json, signal, statistics, subprocess, sys, time

gantry, runs, work = sys.argv[1], int(sys.argv[2]), sys.argv[3]
took = []
for run in range(runs):
    up = subprocess.Popen([gantry, "up", "examples/shop/overlays/dev", "--data-dir", f"{work}/{run}", "--ports", "auto", "--output", "json"],
                          stdout=subprocess.PIPE, text=True)
    watch = load = None
    try:
        report = next(report for line in up.stdout if (report := json.loads(line)).get("ready"))
        time.sleep(5)
        watch = subprocess.Popen(["kubectl", "--kubeconfig", report["kubeconfig"], "get", "deployment", "catalog", "-n", "shop-dev", "--watch",
                                  "-o", "jsonpath={.spec.replicas}{'\\n'}"], stdout=subprocess.PIPE, text=True)
        assert watch.stdout.readline().strip() == "1"
        # Counted from the start of the load's process, so its own start-up is on the bill.
        began = time.monotonic()
        load = subprocess.Popen([gantry, "load", f"{work}/step.yaml", "--target", f"http://{report['addresses']['gateway']}"],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for line in watch.stdout:
            if int(line) > 1:
                took.append(time.monotonic() - began)
                break
        else:
            sys.exit("the watch ended before a decision")
    finally:
        for process in (load, watch, up):
            if process:
                process.send_signal(signal.SIGTERM)
        for process in (load, watch, up):
            if process:
                process.wait(timeout=60)

print(f"{'load step to the decision in the Deployment':<44} {statistics.median(took):8.2f} s    ({min(took):.2f} to {max(took):.2f}, {runs} runs; at most 3 s)")
PY
