#!/usr/bin/env bash
# Compares our Locust master with the real one, side by side: WORKERS workers that only report (50 names each, every 3 s).
# Prints the CPU of the master as a share of one core, how long GET /stats/requests takes, and the ratio.
#
#   benches/locust.sh [WORKERS] [SECONDS]      default 200 workers, 20 s
#   GANTRY=path/to/gantry FAKE=path/to/fake-workers PYTHON=path/to/python-with-locust
set -euo pipefail
cd "$(dirname "$0")/.."
workers=${1:-200} seconds=${2:-20}
python=${PYTHON:-python3}
"$python" -c 'import importlib.metadata as m; m.version("locust")' 2>/dev/null ||
    { echo "skipped: $python has no package locust (PYTHON=… names one that has)"; exit 0; }
gantry=${GANTRY:-target/release/gantry}
fake=${FAKE:-target/release/examples/fake-workers}
[ -x "$gantry" ] || cargo build --release --bin gantry
[ -x "$fake" ] || cargo build --release -p gantry-load --example fake-workers
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/locustfile.py" <<'PY'
from locust import HttpUser, task


class Shopper(HttpUser):
    @task
    def page(self):
        self.client.get("/page")
PY

"$python" - "$work" "$workers" "$seconds" "$gantry" "$fake" "$python" <<'PYTHON'
import json, os, socket, statistics, subprocess, sys, time, urllib.request

work, workers, seconds, gantry, fake, python = sys.argv[1:]
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
        if joined < workers:
            sys.exit(f"only {joined} of {workers} workers joined {command[0]}: nothing measured")
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


real = [python, "-m", "locust"]
ours = [gantry, "locust"] if os.path.basename(gantry) == "gantry" else [gantry]
print(f"master, {workers} workers of 50 names, {seconds} s")
results = {}
for name, command in (("locust", real), ("gantry", ours)):
    results[name] = measure_master(command)
    joined, share, median, worst = results[name]
    print(f"  {name:8} {joined} joined, {share * 100:6.1f} % of a core, /stats/requests {median:.1f} ms (worst {worst:.1f})")
print(f"  CPU ratio {results['gantry'][1] / results['locust'][1]:.3f}")
PYTHON
