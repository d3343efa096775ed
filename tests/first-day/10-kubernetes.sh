# kubectl against a fresh control plane.
needs kubectl && {
  mkdir -p "$work/empty" && printf 'resources: []\nconfigMapGenerator:\n- {name: seed, literals: [a=1]}\n' >"$work/empty/kustomization.yaml"
  cat >"$work/web.yaml" <<'YAML'
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {gantry.dev/command: gantry sample-service catalog}}
    spec:
      containers:
      - {name: web, image: web:1, ports: [{containerPort: 8080}], readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}}
YAML
  step "bring an empty project up" bring_up kubernetes "$work/empty"
  step "see what the server has" says 'deployments' kubectl api-resources
  step "make a namespace" kubectl create namespace team
  step "apply a Deployment" kubectl apply -n team -f "$work/web.yaml"
  step "wait for the roll-out" kubectl rollout status -n team deployment/web --timeout 60s
  step "scale it" kubectl scale -n team deployment/web --replicas 3
  step "read its log" eventually 20 says '.' kubectl logs -n team deployment/web --tail 1
  step "describe it" says 'ScalingReplicaSet' kubectl describe -n team deployment/web
  step "delete the namespace and all in it" kubectl delete namespace team --timeout 60s
}
