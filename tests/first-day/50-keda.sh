# A worker on a Redis list: asleep, woken by a push, grown with the list, asleep again.
needs kubectl redis-server redis-cli && {
  worker_replicas() { [ "$(kubectl get deployment -n queue worker -o jsonpath={.spec.replicas})" = "$1" ]; }
  step "bring the queue up" bring_up keda examples/queue
  step "see the trigger ready" eventually 30 says True kubectl get scaledobject -n queue worker -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
  step "see nothing run" worker_replicas 0
  # shellcheck disable=SC2016
  step "push work" kubectl exec -n queue deployment/redis -- sh -c 'redis-cli -h $POD_IP RPUSH work $(seq 80)'
  step "see it grow to its most" eventually 30 worker_replicas 5
  step "read the metric" says 's0-redis-work' kubectl get --raw '/apis/external.metrics.k8s.io/v1beta1/namespaces/queue/s0-redis-work?labelSelector=scaledobject.keda.sh%2Fname%3Dworker'
  step "see what the autoscaler sees" says 'keda-hpa-worker' kubectl get hpa -n queue
  step "see it sleep again" eventually 90 worker_replicas 0
}
