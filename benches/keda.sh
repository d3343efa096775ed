#!/usr/bin/env bash
# Event to scale: from RPUSH on a Redis list to the new size of the Deployment, seen over a watch, 200 times; and what an
# idle ScaledObject costs in memory. Needs redis-server, kubectl and python3.
#
#   benches/keda.sh [GANTRY] [PUSHES] [OBJECTS]
set -euo pipefail
cd "$(dirname "$0")/.."
gantry=${1:-target/release/gantry}
pushes=${2:-200}
objects=${3:-1000}
for tool in redis-server kubectl python3; do
  command -v "$tool" >/dev/null || { echo "skipped: $tool not found"; exit 0; }
done
[ -x "$gantry" ] || { echo "error: $gantry is not there: cargo build --release -p gantry"; exit 1; }
exec python3 benches/keda.py "$gantry" "$pushes" "$objects"
