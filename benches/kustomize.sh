#!/usr/bin/env bash
# Compares `gantry kustomize build` with `kubectl kustomize`: whole processes, interleaved, on the same directories.
#
#   benches/kustomize.sh [OBJECTS]     objects in the large overlay, 3000 by default (Kustomize is quadratic in them)
#   GANTRY=path/to/gantry              binary to measure; built with --release when unset
#   RUNS=10 LARGE_RUNS=3               how often each runs
#   GROWTH=10                          how many times as large the overlay is that only gantry builds
#
# Rows: time and CPU of both with their ratio; peak resident memory of both; how time grows with the number of objects.
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
for tool in kubectl /usr/bin/time; do
    if ! command -v "$tool" >/dev/null; then
        echo "skipped: $tool not found"
        exit 0
    fi
done

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

# One run: wall and CPU seconds and peak resident megabytes on one line.
measure() {
    # The shell counts in milliseconds, the program in hundredths of a second, but the shell does not count memory.
    local TIMEFORMAT='%R %U %S'
    local out=$1
    shift
    { time /usr/bin/time -o "$work/peak" -f '%M' "$@" >"$out" 2>/dev/null; } 2>"$work/time"
    paste "$work/time" "$work/peak" | awk '{ print $1, $2 + $3, $4 / 1024 }'
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
        { ratio = $1 / ($4 > 0 ? $4 : 0.001); sum += ratio; theirs += $1; ours += $4; theirs_cpu += $2; ours_cpu += $5
          if ($3 > theirs_mb) theirs_mb = $3; if ($6 > ours_mb) ours_mb = $6
          if (NR == 1 || ratio < low) low = ratio; if (ratio > high) high = ratio }
        END { printf "%-22s kubectl %8.3f s (cpu %8.3f)  gantry %7.3f s (cpu %7.3f)  ratio %7.1f (%.1f..%.1f)  output %s\n",
              name, theirs / NR, theirs_cpu / NR, ours / NR, ours_cpu / NR, sum / NR, low, high, same
              printf "%-22s kubectl %8.1f MB  gantry %7.1f MB  ratio %.2f\n", name " peak", theirs_mb, ours_mb,
              ours_mb / theirs_mb }'
}

# CPU seconds of gantry alone, the least of some runs: what else the machine does does not count.
least_cpu() {
    local dir=$1 count=$2 i
    for ((i = 0; i < count; i++)); do
        measure /dev/null "$gantry" kustomize build "$dir"
    done | awk 'NR == 1 || $2 < least { least = $2 } $3 > mb { mb = $3 } END { print least, mb }'
}

# A build of very little is over before a clock of hundredths has ticked: many in a row, and their mean.
one_file() {
    local times=$1 i
    for tool in "kubectl kustomize" "$gantry kustomize build"; do
        local start end
        start=$(date +%s%N)
        # The tool is two or three words.
        # shellcheck disable=SC2086
        for ((i = 0; i < times; i++)); do $tool "$work/one" >"$work/one.$i" 2>/dev/null; done
        end=$(date +%s%N)
        # shellcheck disable=SC2086
        measure "$work/one.out" $tool "$work/one" | awk -v ms="$(((end - start) / times / 1000))" '{ print ms / 1000, $3 }'
    done | awk -v times="$times" '
        { ms[NR] = $1; mb[NR] = $2 }
        END { printf "%-22s kubectl %8.1f ms  gantry %7.1f ms  ratio %7.1f (means of %d)  peak %.1f MB and %.1f MB\n",
              "one file", ms[1], ms[2], ms[1] / ms[2], times, mb[1], mb[2] }'
}

make_overlay "$work/small" 3
make_overlay "$work/large" $((objects / 3))
mkdir -p "$work/one"
printf 'resources: [pod.yaml]\nnamePrefix: a-\n' >"$work/one/kustomization.yaml"
printf 'apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n' >"$work/one/pod.yaml"
one_file "$runs"
compare "small overlay" "$work/small/overlay" "$runs"
compare "$objects objects" "$work/large/overlay" "$large_runs"

growth=${GROWTH:-10}
if [ "$growth" -gt 1 ]; then
    make_overlay "$work/huge" $((objects / 3 * growth))
    {
        least_cpu "$work/large/overlay" 10
        least_cpu "$work/huge/overlay" 5
    } | awk -v objects="$objects" -v growth="$growth" '
        { cpu[NR] = $1; mb[NR] = $2 }
        END { printf "%-22s gantry cpu %7.3f s (%.0f MB) for %d, %7.3f s (%.0f MB) for %d: %.1f times as long\n", "growth",
              cpu[1], mb[1], objects, cpu[2], mb[2], objects * growth, cpu[2] / cpu[1] }'
fi
