#!/usr/bin/env bash
# The gateway against nginx as a proxy: CPU time per request on the same work, in turn, on one core.
#
#   benches/gateway.sh [--rounds N] [--seconds N] [--connections N] [--body BYTES] [--routes N]
#
# The proxy has core 0 for itself, the target (nginx) and the generator (wrk) share core 1. Prints the medians, their
# spread and the ratio of user and of total CPU time per request. Only processes that were started here are ended.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=5 seconds=5 connections=64 body=1024 routes=0
while [ $# -gt 0 ]; do
  case "$1" in
    --rounds) rounds=$2 ;;
    --seconds) seconds=$2 ;;
    --connections) connections=$2 ;;
    --body) body=$2 ;;
    --routes) routes=$2 ;;
    *) echo "unknown option $1" >&2; exit 2 ;;
  esac
  shift 2
done

for program in nginx wrk taskset curl python3; do
  command -v "$program" >/dev/null || { echo "skipped: $program not found"; exit 0; }
done

target_dir=${CARGO_TARGET_DIR:-target}
cargo build --quiet --release --package gantry-gateway --example proxy
proxy="$target_dir/release/examples/proxy"

work=$(mktemp -d)
# The workers of an nginx started as root run as another user.
chmod 755 "$work"
pids=()
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
target_port=$(free_port) nginx_port=$(free_port) gantry_port=$(free_port)
head -c "$body" /dev/zero | tr '\0' 'x' >"$work/body"

common="daemon off; error_log /dev/null; worker_processes 1;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 100000000;
  client_body_temp_path $work/t1; proxy_temp_path $work/t2; fastcgi_temp_path $work/t3; uwsgi_temp_path $work/t4; scgi_temp_path $work/t5;"
cat >"$work/target.conf" <<CONF
pid $work/target.pid; $common
  server { listen 127.0.0.1:$target_port reuseport; root $work; location / { try_files /body =404; default_type text/plain; } } }
CONF
cat >"$work/proxy.conf" <<CONF
pid $work/proxy.pid; $common
  upstream target { server 127.0.0.1:$target_port; keepalive 64; keepalive_requests 100000000; }
  server { listen 127.0.0.1:$nginx_port reuseport;
    location / { proxy_pass http://target; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For \$proxy_add_x_forwarded_for; proxy_set_header X-Real-IP \$remote_addr;
      proxy_set_header X-Forwarded-Proto \$scheme; proxy_set_header X-Forwarded-Host \$host; } } }
CONF

taskset -c 1 nginx -c "$work/target.conf" -p "$work" & pids+=($!)
taskset -c 0 nginx -c "$work/proxy.conf" -p "$work" & pids+=($!)
nginx_pid=$!
taskset -c 0 "$proxy" "127.0.0.1:$gantry_port" "127.0.0.1:$target_port" "$routes" & pids+=($!)
gantry_pid=$!
for port in "$target_port" "$nginx_port" "$gantry_port"; do
  curl --silent --fail --retry 50 --retry-all-errors --retry-delay 0 --retry-max-time 10 --output /dev/null "http://127.0.0.1:$port/"
done
nginx_worker=$(cat "/proc/$nginx_pid/task/$nginx_pid/children" | tr -d ' ')

# User and system time of a process in clock ticks.
ticks() { awk '{ print $14, $15 }' "/proc/$1/stat"; }

measure() { # name pid port [wrk options]
  local before after requests errors
  before=$(ticks "$2")
  taskset -c 1 wrk -t1 -c"$connections" -d"${seconds}s" --latency "${@:4}" "http://127.0.0.1:$3/" >"$work/wrk.txt"
  after=$(ticks "$2")
  requests=$(awk '/requests in/ { print $1 }' "$work/wrk.txt")
  errors=$(grep -c -E 'Socket errors|Non-2xx' "$work/wrk.txt" || true)
  echo "$1 $before $after $requests $errors $(awk '/99%/ { print $2 }' "$work/wrk.txt")" >>"$work/results"
}

measure warm-up "$nginx_worker" "$nginx_port"
measure warm-up "$gantry_pid" "$gantry_port"
for _ in $(seq "$rounds"); do
  measure nginx "$nginx_worker" "$nginx_port"
  measure gantry "$gantry_pid" "$gantry_port"
  measure guarded "$gantry_pid" "$gantry_port" -H "Host: guarded.test" -H "apikey: secret"
done

python3 - "$work/results" "$seconds" "$(getconf CLK_TCK)" "$gantry_pid" "$nginx_worker" <<'PY'
import statistics, sys
path, seconds, hertz = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
rows = {}
for line in open(path):
    name, u0, s0, u1, s1, requests, errors, p99 = line.split()
    tick = 1e6 / hertz / float(requests)
    user, system = (int(u1) - int(u0)) * tick, (int(s1) - int(s0)) * tick
    rows.setdefault(name, []).append((user, user + system, float(requests) / seconds, int(errors), p99))
def spread(values): return f"{statistics.median(values):7.2f} ({min(values):.2f}-{max(values):.2f})"
print(f"{'proxy':<8} {'user us/request':<24} {'total us/request':<24} {'requests/s':<28} p99")
for name in ("nginx", "gantry", "guarded"):
    user, total, rate, errors, p99 = zip(*rows[name])
    print(f"{name:<8} {spread(user):<24} {spread(total):<24} {spread(rate):<28} {p99[len(p99) // 2]}")
    if any(errors): print(f"{name}: errors in {sum(1 for e in errors if e)} rounds")
for column, what in ((0, "user"), (1, "total")):
    ratios = sorted(g[column] / n[column] for g, n in zip(rows["gantry"], rows["nginx"]))
    print(f"{what} CPU per request, gantry / nginx: {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})")
    ratios = sorted(g[column] / p[column] for g, p in zip(rows["guarded"], rows["gantry"]))
    print(f"{what} CPU per request, with key-auth and rate-limiting / without: {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})")
for name, pid in (("gantry", sys.argv[4]), ("nginx", sys.argv[5])):
    rss = next(line for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS"))
    print(f"{name} resident: {int(rss.split()[1]) / 1024:.1f} MB")
PY
