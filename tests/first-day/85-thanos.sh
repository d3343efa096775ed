# Blocks into a bucket by the sidecar of a real Prometheus, and back out through store and query.
needs prometheus promtool curl && {
  mkdir -p "$work/thanos/prometheus" "$work/thanos/bucket" "$work/thanos/compact"
  printf 'global: {external_labels: {cluster: mine}}\n' >"$work/thanos/prometheus.yml"
  printf 'type: FILESYSTEM\nconfig: {directory: %s}\n' "$work/thanos/bucket" >"$work/thanos/bucket.yml"
  python3 - >"$work/thanos/old.om" <<'PY'
import time
now = int(time.time()) // 7200 * 7200
print("# TYPE orders gauge")
for t in range(now - 5 * 7200, now - 7200, 60):
    print(f"orders{{shop=\"mine\"}} 7 {t}")
print("# EOF")
PY
  step "write old samples as blocks" promtool tsdb create-blocks-from openmetrics "$work/thanos/old.om" "$work/thanos/prometheus"
  port=$(free_port)
  background prometheus --config.file="$work/thanos/prometheus.yml" --storage.tsdb.path="$work/thanos/prometheus" --web.listen-address="127.0.0.1:$port" --storage.tsdb.min-block-duration=2h --storage.tsdb.max-block-duration=2h 2>"$work/thanos/prometheus.log"
  step "start a real Prometheus" eventually 30 curl -fsS "http://127.0.0.1:$port/-/ready"
  sidecar=$(free_port) store=$(free_port) query=$(free_port) bucket_query=$(free_port)
  background "$GANTRY" thanos sidecar --prometheus.url="http://127.0.0.1:$port" --tsdb.path="$work/thanos/prometheus" --objstore.config-file="$work/thanos/bucket.yml" --grpc-address="127.0.0.1:$sidecar" --http-address=127.0.0.1:0 2>"$work/thanos/sidecar.log"
  step "see its blocks in the bucket" eventually 60 bash -c "ls $work/thanos/bucket/*/meta.json"
  step "find Thanos' own words in them" eventually 10 bash -c "grep -l '\"thanos\"' $work/thanos/bucket/*/meta.json && grep -q '\"cluster\": *\"mine\"' $work/thanos/bucket/*/meta.json"
  background "$GANTRY" thanos store --objstore.config-file="$work/thanos/bucket.yml" --grpc-address="127.0.0.1:$store" --http-address=127.0.0.1:0 2>"$work/thanos/store.log"
  background "$GANTRY" thanos query --endpoint="127.0.0.1:$sidecar" --endpoint="127.0.0.1:$store" --http-address="127.0.0.1:$query" --grpc-address=127.0.0.1:0 2>"$work/thanos/query.log"
  # The sidecar has the same samples: only a query without it says what comes out of the bucket.
  background "$GANTRY" thanos query --endpoint="127.0.0.1:$store" --http-address="127.0.0.1:$bucket_query" --grpc-address=127.0.0.1:0 2>"$work/thanos/bucket-query.log"
  once() {
    local output
    output=$(promtool query instant --time="$at" "http://127.0.0.1:$1" orders 2>&1) || { printf '%s\n' "$output"; return 1; }
    [ "$(grep -c '=> 7' <<<"$output")" = 1 ] || { printf 'not once in\n%s\n' "$output"; return 1; }
  }
  at=$(($(date +%s) / 7200 * 7200 - 3 * 7200))
  step "ask for them" eventually 30 once "$bucket_query"
  step "see them once beside Prometheus' own" eventually 30 once "$query"
  step "see them with their cluster's name" says 'cluster="mine"' promtool query instant --time="$at" "http://127.0.0.1:$query" orders
  step "compact the bucket" "$GANTRY" thanos compact --objstore.config-file="$work/thanos/bucket.yml" --data-dir="$work/thanos/compact" --consistency-delay=0s
  step "ask again" eventually 30 once "$bucket_query"
}
