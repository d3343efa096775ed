# A configuration, a scrape, and the clients that ask Prometheus.
needs promtool curl && {
  port=$(free_port)
  cat >"$work/prometheus.yml" <<YAML
global: {scrape_interval: 1s}
scrape_configs:
- job_name: self
  static_configs: [{targets: ["127.0.0.1:$port"]}]
YAML
  step "check the configuration with the original's own tool" promtool check config "$work/prometheus.yml"
  background "$GANTRY" prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/tsdb" --web.listen-address="127.0.0.1:$port" 2>"$work/prometheus.log"
  step "start it" eventually 30 curl -fsS "http://127.0.0.1:$port/-/ready"
  step "see the target up" eventually 30 says '=> 1' promtool query instant "http://127.0.0.1:$port" 'up{job="self"}'
  step "ask for a rate" eventually 30 says '=>' promtool query instant "http://127.0.0.1:$port" 'rate(prometheus_tsdb_head_samples_appended_total[10s])'
  step "list series" says 'up' promtool query series --match=up "http://127.0.0.1:$port"
  step "list labels" says 'self' promtool query labels "http://127.0.0.1:$port" job
  step "read a mistake in a query" says 'parse error' curl -sS "http://127.0.0.1:$port/api/v1/query?query=sum("
}
