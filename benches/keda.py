"""Drives benches/keda.sh: one `gantry up` of a Deployment that a ScaledObject wakes, pushes, and a watch that times."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

gantry, pushes, objects = os.path.abspath(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

SCALED = """apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {{name: {name}, namespace: default}}
spec:
  scaleTargetRef: {{name: {name}}}
  minReplicaCount: 0
  maxReplicaCount: 1
  cooldownPeriod: 0
  triggers:
  - type: redis
    metadata: {{address: "127.0.0.1:{port}", listName: {name}}}
"""
DEPLOYMENT = """apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: default}}
spec:
  replicas: 0
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: sleep}}]}}
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Redis:
    """As much of the protocol as the bench needs, over one connection."""

    def __init__(self, port):
        self.file = socket.create_connection(("127.0.0.1", port)).makefile("rwb")

    def ask(self, *words):
        self.file.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        self.file.flush()
        return self.file.readline()


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def main():
    folder = tempfile.mkdtemp(prefix="gantry-keda-")
    started = []
    try:
        port = free_port()
        redis_server = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        started.append(subprocess.Popen(redis_server, stdout=subprocess.DEVNULL))
        write = lambda name, text: open(os.path.join(folder, name), "w").write(text)
        write("kustomization.yaml", "resources: [deployment.yaml, scaled.yaml]\n")
        write("deployment.yaml", DEPLOYMENT.format(name="bench"))
        write("scaled.yaml", SCALED.format(name="bench", port=port))
        write("gantry.yaml", "images:\n  sleep: [sleep, infinity]\n")
        up = subprocess.Popen(
            [gantry, "up", folder, "--data-dir", os.path.join(folder, "state"), "--ports", "auto", "--output", "json"],
            stdout=subprocess.PIPE, text=True)
        started.append(up)
        for line in up.stdout:
            report = json.loads(line)
            if report.get("ready") is True:
                break
        kubectl = ["kubectl", "--kubeconfig", report["kubeconfig"]]
        watch = subprocess.Popen(
            kubectl + ["get", "deployment", "bench", "--watch", "-o", "jsonpath={.spec.replicas}{\"\\n\"}"],
            stdout=subprocess.PIPE, text=True)
        started.append(watch)
        seen, changed = {"size": None, "at": 0.0}, threading.Condition()

        def follow():
            for line in watch.stdout:
                with changed:
                    size = int(line.strip() or 0)
                    if size != seen["size"]:
                        seen.update(size=size, at=time.perf_counter())
                    changed.notify_all()

        threading.Thread(target=follow, daemon=True).start()

        def wait_for(size):
            with changed:
                if not changed.wait_for(lambda: seen["size"] == size, timeout=30):
                    raise SystemExit(f"no size {size} within 30 s")
                return seen["at"]

        redis, delays = Redis(port), []
        wait_for(0)
        time.sleep(2)
        for _ in range(pushes):
            began = time.perf_counter()
            redis.ask(b"RPUSH", b"bench", b"x")
            delays.append((wait_for(1) - began) * 1000)
            redis.ask(b"DEL", b"bench")
            wait_for(0)
            time.sleep(0.05)
        delays.sort()
        at = lambda share: delays[min(len(delays) - 1, int(share * len(delays)))]
        print(f"push to scale: {pushes} pushes, p50 {at(.5):.1f} ms, p90 {at(.9):.1f} ms, p99 {at(.99):.1f} ms, worst {delays[-1]:.1f} ms")
        if objects:
            before = resident(up.pid)
            names = [f"idle-{n}" for n in range(objects)]
            for kind, text in (("deployments", DEPLOYMENT), ("scaled objects", SCALED)):
                write("idle.yaml", "---\n".join(text.format(name=name, port=port) for name in names))
                subprocess.run(kubectl + ["create", "-f", os.path.join(folder, "idle.yaml")], check=True, stdout=subprocess.DEVNULL)
                time.sleep(20)
                after = resident(up.pid)
                print(f"memory: {objects} idle {kind} cost {(after - before) / objects:.1f} KiB each (resident {before // 1024} -> {after // 1024} MiB)")
                before = after
        sys.exit(0 if at(.99) < 250 else 1)
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


main()
