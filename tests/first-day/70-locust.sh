# A locustfile, run locally and by a stock worker under our master.
locust_files() { test -s "$work/run_stats.csv" && test -s "$work/run_stats_history.csv" && grep -q '^GET,/products,' "$work/run_stats.csv"; }
needs curl "$PYTHON" && if ! "$PYTHON" -c 'import locust' 2>/dev/null; then missing="locust (set GANTRY_TEST_PYTHON)"; else
  port=$(free_port)
  background "$GANTRY" sample-service catalog --address=127.0.0.1 --port="$port" >"$work/catalog.log" 2>&1
  cat >"$work/locustfile.py" <<'PY'
from locust import HttpUser, between, task

class Shopper(HttpUser):
    wait_time = between(0.05, 0.1)

    @task
    def products(self):
        self.client.get("/products")
PY
  step "wait for the service" eventually 20 curl -fsS "http://127.0.0.1:$port/products"
  step "list the users" says 'Shopper' env PATH="$(dirname "$PYTHON"):$PATH" "$GANTRY" locust -f "$work/locustfile.py" --list
  step "run without a page" env PATH="$(dirname "$PYTHON"):$PATH" "$GANTRY" locust -f "$work/locustfile.py" --headless -u 4 -r 4 -t 4s -H "http://127.0.0.1:$port" --csv "$work/run"
  step "find the CSV files" locust_files
  web=$(free_port) bind=$(free_port)
  background "$GANTRY" locust -f "$work/locustfile.py" --master --master-bind-port "$bind" --web-host 127.0.0.1 --web-port "$web" -H "http://127.0.0.1:$port" >"$work/master.log" 2>&1
  mkdir -p "$work/worker"
  background env TMPDIR="$work/worker" "$PYTHON" -m locust -f - --worker --master-host 127.0.0.1 --master-port "$bind" >"$work/worker.log" 2>&1
  step "see a stock worker join" eventually 30 says '"worker_count": *1' curl -fsS "http://127.0.0.1:$web/stats/requests"
  step "start a swarm" says '"success": *true' curl -fsS -d user_count=5 -d spawn_rate=5 "http://127.0.0.1:$web/swarm"
  step "see requests counted" eventually 30 says '"num_requests": *[1-9][0-9]' curl -fsS "http://127.0.0.1:$web/stats/requests"
  step "stop it" says '"success": *true' curl -fsS -X POST "http://127.0.0.1:$web/stop"
  step "download the statistics" says '^GET,/products,' curl -fsS "http://127.0.0.1:$web/stats/requests/csv"
fi
