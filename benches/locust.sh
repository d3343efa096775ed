#!/usr/bin/env bash
# Compares our Locust master and native engine with the real Locust, side by side, and prints the ratios.
#
#  master: WORKERS workers that only report (50 names each, every 3 s): CPU of the master as a share of one core, and how
#          long GET /stats/requests takes (median and worst of 20).
#  load:   the same straight locustfile, 64 users without wait time against nginx: CPU seconds per million requests.
#
#   benches/locust.sh [WORKERS] [SECONDS]      default 200 workers, 20 s
#   GANTRY=path/to/gantry FAKE=path/to/fake-workers PYTHON=path/to/python-with-locust
set -euo pipefail
cd "$(dirname "$0")/.."
workers=${1:-200} seconds=${2:-20}
python=${PYTHON:-python3}
"$python" -c 'import importlib.metadata as m; m.version("locust")' 2>/dev/null ||
    { echo "skipped: $python has no package locust (PYTHON=… names one that has)"; exit 0; }
command -v nginx >/dev/null || { echo "skipped: nginx not found"; exit 0; }
gantry=${GANTRY:-target/release/gantry}
fake=${FAKE:-target/release/examples/fake-workers}
[ -x "$gantry" ] || cargo build --release --bin gantry
[ -x "$fake" ] || cargo build --release -p gantry-load --example fake-workers
work=$(mktemp -d)
chmod 755 "$work"
trap 'kill "${nginx:-}" 2>/dev/null || true; rm -rf "$work"' EXIT
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
cat >"$work/locustfile.py" <<'PY'
from locust import HttpUser, task


class Shopper(HttpUser):
    @task
    def page(self):
        self.client.get("/page")
PY
nginx -c "$work/nginx.conf" &
nginx=$!


"$python" - "$work" "$workers" "$seconds" "$port" "$gantry" "$fake" "$python" <<'PYTHON'
import csv, json, os, resource, socket, statistics, subprocess, sys, time, urllib.request

work, workers, seconds, target, gantry, fake, python = sys.argv[1:]
workers, seconds = int(workers), int(seconds)
hz = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / hz


def get(url, data=None):
    return urllib.request.urlopen(url, data, timeout=60).read()


def measure_master(command):
    bind, web = free_port(), free_port()
    flags = ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", str(bind), "--web-host", "127.0.0.1",
             "--web-port", str(web), "-f", f"{work}/locustfile.py", "-L", "ERROR"]
    master = subprocess.Popen(command + flags, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=work)
    fakes = None
    try:
        base = f"http://127.0.0.1:{web}"
        for _ in range(300):
            try:
                get(f"{base}/worker-count")
                break
            except OSError:
                time.sleep(0.1)
        fakes = subprocess.Popen([fake, str(bind), str(workers), "50", "3600"])
        deadline = time.time() + 120
        while json.loads(get(f"{base}/worker-count"))["worker_count"] < workers and time.time() < deadline:
            time.sleep(0.3)
        joined = json.loads(get(f"{base}/worker-count"))["worker_count"]
        time.sleep(4)
        get(f"{base}/swarm", f"user_count={workers}&spawn_rate={workers}".encode())
        time.sleep(6)
        used, began, asked = cpu(master.pid), time.time(), []
        while time.time() - began < seconds:
            start = time.perf_counter()
            get(f"{base}/stats/requests")
            asked.append((time.perf_counter() - start) * 1000)
            # Longer than the two seconds for which Locust repeats an answer.
            time.sleep(2.1)
        share = (cpu(master.pid) - used) / (time.time() - began)
        return joined, share, statistics.median(asked), max(asked)
    finally:
        for process in (fakes, master):
            if process:
                process.kill()
                process.wait()


def measure_load(command, name):
    prefix = f"{work}/{name}"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command + ["--headless", "-u", "64", "-r", "64", "-t", f"{seconds}s", "-H", f"http://127.0.0.1:{target}", "-f",
                   f"{work}/locustfile.py", "--csv", prefix, "--only-summary", "-L", "ERROR"],
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=work)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    requests = int(list(csv.reader(open(f"{prefix}_stats.csv")))[-1][2])
    return requests / seconds, used / requests * 1e6


real = [python, "-m", "locust"]
ours = [gantry, "locust"] if os.path.basename(gantry) == "gantry" else [gantry]
print(f"master, {workers} workers of 50 names, {seconds} s")
results = {}
for name, command in (("locust", real), ("gantry", ours)):
    results[name] = measure_master(command)
    joined, share, median, worst = results[name]
    print(f"  {name:8} {joined} joined, {share * 100:6.1f} % of a core, /stats/requests {median:.1f} ms (worst {worst:.1f})")
print(f"  CPU ratio {results['gantry'][1] / results['locust'][1]:.3f}")
print(f"load, 64 users, {seconds} s")
rates = {}
for name, command in (("locust", real), ("gantry", ours + ["--processes", "1"])):
    rates[name] = measure_load(command, name)
    print(f"  {name:8} {rates[name][0]:8.0f} requests/s, {rates[name][1]:7.1f} CPU s per million")
print(f"  CPU per request, locust over gantry: {rates['locust'][1] / rates['gantry'][1]:.1f}")
PYTHON
