# A kong.yml, the Admin API, and plugins that keep strangers out and friends in bounds.
needs curl && {
  status() { curl -sS -o /dev/null -w '%{http_code}' "${@:2}" | grep -qx "$1"; }
  upstream=$(free_port)
  background "$GANTRY" sample-service catalog --address=127.0.0.1 --port="$upstream" >"$work/upstream.log" 2>&1
  cat >"$work/kong.yml" <<YAML
_format_version: "3.0"
services:
- name: catalog
  url: http://127.0.0.1:$upstream
  routes:
  - name: catalog
    paths: [/shop]
  plugins:
  - name: key-auth
consumers:
- username: alice
  keyauth_credentials:
  - key: open-sesame
YAML
  step "check the file" "$GANTRY" kong config parse "$work/kong.yml"
  proxy=$(free_port) admin=$(free_port)
  background env KONG_DATABASE=off KONG_DECLARATIVE_CONFIG="$work/kong.yml" KONG_PROXY_LISTEN="127.0.0.1:$proxy" KONG_ADMIN_LISTEN="127.0.0.1:$admin" "$GANTRY" kong start -p "$work/kong" 2>"$work/kong.log"
  step "start without a database" eventually 20 curl -fsS "http://127.0.0.1:$admin/status"
  step "be kept out without a key" eventually 20 status 401 "http://127.0.0.1:$proxy/shop/products"
  step "come in with one" status 200 -H 'apikey: open-sesame' "http://127.0.0.1:$proxy/shop/products"
  step "list the services" says '"name": *"catalog"' curl -fsS "http://127.0.0.1:$admin/services"
  step "be told that the file is the authority" status 405 -X POST -d name=x -d host=x "http://127.0.0.1:$admin/services"
  proxy2=$(free_port) admin2=$(free_port)
  background env KONG_PROXY_LISTEN="127.0.0.1:$proxy2" KONG_ADMIN_LISTEN="127.0.0.1:$admin2" "$GANTRY" kong start -p "$work/kong2" 2>"$work/kong2.log"
  step "start with a store" eventually 20 curl -fsS "http://127.0.0.1:$admin2/status"
  step "add a service" status 201 -d name=catalog -d "url=http://127.0.0.1:$upstream" "http://127.0.0.1:$admin2/services"
  step "and a route" status 201 -d 'paths[]=/shop' "http://127.0.0.1:$admin2/services/catalog/routes"
  step "and a limit" status 201 -d name=rate-limiting -d config.minute=2 -d config.policy=local "http://127.0.0.1:$admin2/services/catalog/plugins"
  step "be served" eventually 10 status 200 "http://127.0.0.1:$proxy2/shop/products"
  step "and limited" eventually 10 status 429 "http://127.0.0.1:$proxy2/shop/products"
}
