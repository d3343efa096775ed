# kubectl top, and a HorizontalPodAutoscaler that follows a load.
needs kubectl && {
  step "bring the example up" bring_up autoscaling examples/shop/overlays/dev
  step "see what nodes use" eventually 30 says 'gantry' kubectl top nodes
  step "see what pods use" eventually 30 says 'catalog' kubectl top pods -n shop-dev
  step "ask the API itself" says 'PodMetricsList' kubectl get --raw /apis/metrics.k8s.io/v1beta1/namespaces/shop-dev/pods
  step "autoscale a Deployment" kubectl autoscale -n shop-dev deployment/checkout --min 1 --max 3 --cpu-percent 50
  background "$GANTRY" load examples/shop/load.yaml --target "http://$gateway" >/dev/null 2>&1
  step "watch it scale under load" eventually 60 bash -c '[ "$(kubectl get deployment -n shop-dev catalog -o jsonpath={.status.readyReplicas})" -ge 3 ]'
  step "read why" says 'SuccessfulRescale' kubectl describe hpa -n shop-dev catalog
}
