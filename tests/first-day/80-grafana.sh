# A dashboard from a ConfigMap on live data, and one from a file, through Grafana's own API.
needs kubectl curl && {
  is_picture() { curl -fsS -o "$work/panel.png" "$1" && head -c 8 "$work/panel.png" | grep -q PNG && [ "$(stat -c %s "$work/panel.png")" -gt 2000 ]; }
  step "bring the example up" bring_up grafana examples/shop/overlays/dev
  step "ask how it is" says '"database": *"ok"' curl -fsS "http://$console/api/health"
  step "find a dashboard" eventually 30 says '"uid": *"shop"' curl -fsS "http://$console/api/search?query=shop"
  step "open it by its uid" says '"title"' curl -fsS "http://$console/api/dashboards/uid/shop"
  step "draw a panel" eventually 20 is_picture "http://$console/render/d-solo/shop/shop?panelId=4&width=800&height=400"
  mkdir -p "$work/provisioning/dashboards" "$work/provisioning/datasources" "$work/boards"
  printf 'apiVersion: 1\ndatasources:\n- {name: Prometheus, type: prometheus, url: "http://%s", isDefault: true}\n' "$metrics" >"$work/provisioning/datasources/main.yaml"
  printf 'apiVersion: 1\nproviders:\n- {name: files, type: file, options: {path: %s}}\n' "$work/boards" >"$work/provisioning/dashboards/main.yaml"
  cat >"$work/boards/mine.json" <<'JSON'
{"uid": "mine", "title": "Mine", "schemaVersion": 39, "time": {"from": "now-5m", "to": "now"}, "panels": [
  {"id": 1, "type": "timeseries", "title": "Targets", "gridPos": {"x": 0, "y": 0, "w": 12, "h": 8},
   "targets": [{"refId": "A", "expr": "sum(up)", "legendFormat": "up"}]}]}
JSON
  own=$(free_port)
  background env GF_SERVER_HTTP_ADDR=127.0.0.1 GF_SERVER_HTTP_PORT="$own" GF_PATHS_PROVISIONING="$work/provisioning" GF_PATHS_DATA="$work/grafana-data" "$GANTRY" grafana 2>"$work/grafana.log"
  step "provision a file of one's own" eventually 20 says '"uid": *"mine"' curl -fsS "http://127.0.0.1:$own/api/search"
  step "draw it" is_picture "http://127.0.0.1:$own/render/d-solo/mine/mine?panelId=1&width=600&height=300"
  step "read a panel in the terminal" says 'Targets' "$GANTRY" grafana render "$work/boards/mine.json" --panel 1 --prometheus "http://$metrics"
}
