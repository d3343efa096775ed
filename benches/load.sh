#!/usr/bin/env bash
# Compares `gantry load` with wrk: the same 64 connections against the same nginx, in turn, and prints requests per
# second and the generator's CPU seconds per million requests, each as median (least..most), and the ratio.
#
#   benches/load.sh [ROUNDS] [SECONDS]      default 5 rounds of 10 s
#   GANTRY=path/to/gantry                    default target/release/gantry, built when it is not there
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5} seconds=${2:-10}
for program in nginx wrk python3; do
    command -v "$program" >/dev/null || { echo "skipped: $program not found"; exit 0; }
done
gantry=${GANTRY:-target/release/gantry}
[ -x "$gantry" ] || cargo build --release --bin gantry
work=$(mktemp -d)
chmod 755 "$work" # the worker of nginx may be another user
trap 'kill "$nginx" 2>/dev/null || true; rm -rf "$work"' EXIT
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir "$work/www" "$work/tmp"
head -c 1024 /dev/zero | tr '\0' 'x' >"$work/www/page"
cat >"$work/nginx.conf" <<CONF
worker_processes 1;
daemon off;
pid $work/pid;
error_log $work/error.log;
events { worker_connections 1024; }
http {
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path $work/tmp; proxy_temp_path $work/tmp; fastcgi_temp_path $work/tmp;
    uwsgi_temp_path $work/tmp; scgi_temp_path $work/tmp;
    server { listen 127.0.0.1:$port; root $work/www; }
}
CONF
cat >"$work/load.yaml" <<YAML
target: http://127.0.0.1:$port
duration: ${seconds}s
users: 64
requests: [/page]
YAML
# On two cores or more the server and the generator do not share one.
server=() generator=()
if [ "$(nproc)" -ge 2 ] && command -v taskset >/dev/null; then
    server=(taskset -c 0) generator=(taskset -c 1)
fi
"${server[@]}" nginx -c "$work/nginx.conf" &
nginx=$!
for _ in $(seq 100); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    sleep 0.05
done

python3 - "$rounds" "$seconds" "$port" "$gantry" "$work/load.yaml" "${generator[@]}" <<'PYTHON'
import json, re, resource, statistics, subprocess, sys

rounds, seconds, port, gantry, scenario = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5]
pin = sys.argv[6:]

def cpu():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

def measure(command, requests):
    before = cpu()
    out = subprocess.run(pin + command, check=True, capture_output=True, text=True).stdout
    count, rate = requests(out)
    return rate, (cpu() - before) / count * 1e6

def wrk(out):
    return int(re.search(r"(\d+) requests in", out)[1]), float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])

def ours(out):
    total = json.loads(out)["total"]
    assert total["failed"] == 0, total
    return total["requests"], total["rate"]

runs = {
    "wrk": (["wrk", "-t1", "-c64", f"-d{seconds}s", f"http://127.0.0.1:{port}/page"], wrk),
    "gantry load": ([gantry, "load", scenario, "--threads", "1", "--output", "json"], ours),
}
if gantry.endswith("gantry-load"):
    runs["gantry load"][0].remove("load")
results = {name: [] for name in runs}
for _ in range(rounds):
    for name, (command, requests) in runs.items():
        results[name].append(measure(command, requests))
print(f"{'':12} {'requests/s':>28} {'CPU s per 10^6 requests':>28}")
for name, list_ in results.items():
    cells = [f"{statistics.median(v):.5g} ({min(v):.5g}..{max(v):.5g})" for v in zip(*list_)]
    print(f"{name:12} {cells[0]:>28} {cells[1]:>28}")
ratios = [ours[1] / theirs[1] for theirs, ours in zip(results["wrk"], results["gantry load"])]
print(f"CPU per request, gantry / wrk: {statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})")
PYTHON
