# Kong's objects on Kubernetes and an HTTPRoute, with kubectl and curl.
needs kubectl curl && {
  answers() { curl -sS -o /dev/null -w '%{http_code}' -H "Host: $2" "${@:4}" "http://$gateway$3" | grep -qx "$1"; }
  cat >"$work/kong-objects.yaml" <<'YAML'
apiVersion: configuration.konghq.com/v1
kind: KongPlugin
metadata: {name: keys}
plugin: key-auth
---
apiVersion: configuration.konghq.com/v1
kind: KongConsumer
metadata: {name: alice, annotations: {kubernetes.io/ingress.class: kong}}
username: alice
credentials: [alice-key]
---
apiVersion: v1
kind: Secret
metadata: {name: alice-key, labels: {konghq.com/credential: key-auth}}
stringData: {key: open-sesame}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: guarded, annotations: {konghq.com/plugins: keys}}
spec:
  ingressClassName: kong
  rules:
  - host: guarded.localhost
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: catalog, port: {name: http}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: forgotten, annotations: {konghq.com/plugins: nobody}}
spec:
  ingressClassName: kong
  rules:
  - host: forgotten.localhost
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: catalog, port: {name: http}}}}]}
YAML
  cat >"$work/route.yaml" <<'YAML'
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: kong}
spec: {controllerName: konghq.com/kic-gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front}
spec:
  gatewayClassName: kong
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: routed}
spec:
  parentRefs: [{name: front}]
  hostnames: [routed.localhost]
  rules:
  - matches: [{path: {type: PathPrefix, value: /products}}]
    filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Team, value: shop}]}}]
    backendRefs: [{name: catalog, port: 8080}]
YAML
  step "bring the example up" bring_up ingress-controller examples/shop/overlays/dev
  step "apply a plugin, a consumer and an Ingress" kubectl apply -n shop-dev -f "$work/kong-objects.yaml"
  step "be kept out without a key" eventually 20 answers 401 guarded.localhost /products
  step "come in with one" eventually 20 answers 200 guarded.localhost /products -H 'apikey: open-sesame'
  step "find a route closed whose plugin is missing" eventually 20 answers 503 forgotten.localhost /products
  step "read why" eventually 20 says 'no KongPlugin or KongClusterPlugin was found' kubectl describe ingress -n shop-dev forgotten
  step "apply a Gateway and an HTTPRoute" kubectl apply -n shop-dev -f "$work/route.yaml"
  step "see the Gateway programmed" kubectl wait -n shop-dev --for condition=Programmed --timeout 30s gateway/front
  step "see the route's filter at work" eventually 20 says 'X-Team: shop' curl -sS -i -H 'Host: routed.localhost' "http://$gateway/products"
}
