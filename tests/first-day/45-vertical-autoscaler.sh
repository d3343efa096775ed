# Recommendations of requests, and a metric of pods that kubectl and an autoscaler read.
needs kubectl curl && {
  cat >"$work/vpa.yaml" <<'YAML'
apiVersion: autoscaling.k8s.io/v1
kind: VerticalPodAutoscaler
metadata: {name: catalog}
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: catalog}
  updatePolicy: {updateMode: "Off"}
  resourcePolicy: {containerPolicies: [{containerName: "*", maxAllowed: {memory: 64Mi}}]}
YAML
  cat >"$work/hpa.yaml" <<'YAML'
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: checkout}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: checkout}
  minReplicas: 1
  maxReplicas: 2
  metrics:
  - {type: Pods, pods: {metric: {name: http_requests_per_second}, target: {type: AverageValue, averageValue: 1m}}}
YAML
  cp -r examples/shop "$work/vertical"
  cat >"$work/vertical/rules.yaml" <<'YAML'
rules:
- seriesQuery: 'http_requests_total{namespace!="",pod!=""}'
  resources: {template: "<<.Resource>>"}
  name: {matches: "^(.*)_total$", as: "${1}_per_second"}
  metricsQuery: 'sum(rate(<<.Series>>{<<.LabelMatchers>>}[10s])) by (<<.GroupBy>>)'
YAML
  printf 'metricRules: rules.yaml\n' >>"$work/vertical/gantry.yaml"
  step "bring the example up with prometheus-adapter's rules" bring_up vertical "$work/vertical/overlays/dev"
  step "ask for recommendations" kubectl apply -n shop-dev -f "$work/vpa.yaml"
  step "read them, capped" eventually 60 says '64Mi' kubectl get vpa -n shop-dev catalog -o 'jsonpath={.status.recommendation.containerRecommendations[0].target.memory}'
  visit() { curl -sS -o /dev/null -H 'Host: shop.localhost' "http://$gateway/checkout?product=3"; kubectl get --raw /apis/custom.metrics.k8s.io/v1beta2/namespaces/shop-dev/pods/*/http_requests_per_second; }
  step "read a metric of pods" eventually 60 says 'describedObject' visit
  step "scale on it" kubectl apply -n shop-dev -f "$work/hpa.yaml"
  two() { visit >/dev/null; [ "$(kubectl get deployment -n shop-dev checkout -o jsonpath={.spec.replicas})" = 2 ]; }
  step "see it scale" eventually 60 two
}
