#!/usr/bin/env bash
# Compares `gantry kustomize build` with `kubectl kustomize`: whole processes, interleaved, on the same directories.
#
#   benches/kustomize.sh [OBJECTS]     objects in the large overlay, 3000 by default (Kustomize is quadratic in them)
#   GANTRY=path/to/gantry              binary to measure; built with --release when unset
#   RUNS=10 LARGE_RUNS=3               how often each runs
set -euo pipefail
cd "$(dirname "$0")/.."

objects=${1:-3000}
runs=${RUNS:-10}
large_runs=${LARGE_RUNS:-3}
gantry=${GANTRY:-}
if [ -z "$gantry" ]; then
    cargo build --quiet --release -p gantry
    gantry=${CARGO_TARGET_DIR:-target}/release/gantry
fi
if ! command -v kubectl >/dev/null; then
    echo "skipped: kubectl not found"
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A base of N deployments, services and hashed ConfigMaps, and an overlay that renames, labels and retags them all.
make_overlay() {
    local dir=$1 n=$2 i
    mkdir -p "$dir/base" "$dir/overlay"
    {
        echo "resources: [all.yaml]"
        echo "configMapGenerator:"
        for ((i = 0; i < n; i++)); do
            echo "- name: config-$i"
            echo "  literals: [key=value-$i]"
        done
    } >"$dir/base/kustomization.yaml"
    for ((i = 0; i < n; i++)); do
        cat <<YAML
apiVersion: apps/v1
kind: Deployment
metadata:
  name: app-$i
spec:
  selector:
    matchLabels: {app: app-$i}
  template:
    metadata:
      labels: {app: app-$i}
    spec:
      containers:
      - name: main
        image: example/app:1.0
        envFrom:
        - configMapRef: {name: config-$i}
---
apiVersion: v1
kind: Service
metadata:
  name: app-$i
spec:
  selector: {app: app-$i}
  ports:
  - port: 80
---
YAML
    done >"$dir/base/all.yaml"
    cat >"$dir/overlay/kustomization.yaml" <<YAML
resources: [../base]
namePrefix: prod-
namespace: shop
labels:
- pairs: {team: web}
  includeSelectors: true
images:
- name: example/app
  newTag: "2.0"
YAML
}

# One run: wall and CPU seconds on one line.
measure() {
    local TIMEFORMAT='%R %U %S'
    local out=$1
    shift
    { time "$@" >"$out" 2>/dev/null; } 2>&1 | awk '{ print $1, $2 + $3 }'
}

compare() {
    local name=$1 dir=$2 count=$3 i
    : >"$work/ours"
    : >"$work/theirs"
    same=same
    for ((i = 0; i < count; i++)); do
        measure "$work/expected" kubectl kustomize "$dir" >>"$work/theirs"
        measure "$work/found" "$gantry" kustomize build "$dir" >>"$work/ours"
        cmp -s "$work/expected" "$work/found" || same=DIFFERENT
    done
    paste "$work/theirs" "$work/ours" | awk -v name="$name" -v same="$same" '
        { ratio = $1 / ($3 > 0 ? $3 : 0.001); sum += ratio; theirs += $1; ours += $3; theirs_cpu += $2; ours_cpu += $4
          if (NR == 1 || ratio < low) low = ratio; if (ratio > high) high = ratio }
        END { printf "%-22s kubectl %8.3f s (cpu %8.3f)  gantry %7.3f s (cpu %7.3f)  ratio %7.1f (%.1f..%.1f)  output %s\n",
              name, theirs / NR, theirs_cpu / NR, ours / NR, ours_cpu / NR, sum / NR, low, high, same }'
}

make_overlay "$work/small" 3
make_overlay "$work/large" $((objects / 3))
compare "small overlay" "$work/small/overlay" "$runs"
compare "$objects objects" "$work/large/overlay" "$large_runs"
