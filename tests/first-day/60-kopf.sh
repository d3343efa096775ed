# One file of handlers: under the real Kopf, then under our engine.
needs kubectl "$PYTHON" && if ! "$PYTHON" -c 'import kopf' 2>/dev/null; then missing="kopf (set GANTRY_TEST_PYTHON)"; else
  mkdir -p "$work/operator"
  printf 'resources: [crd.yaml]\n' >"$work/operator/kustomization.yaml"
  cat >"$work/operator/handlers.py" <<'PY'
import kopf

@kopf.on.create("example.com", "v1", "boxes")
@kopf.on.update("example.com", "v1", "boxes")
def fill(spec, body, patch, logger, **_):
    size = spec.get("size", 0)
    if size < 0:
        kopf.warn(body, reason="TooSmall", message="smaller than nothing")
        raise kopf.PermanentError("a box cannot be smaller than nothing")
    patch.status["volume"] = size ** 3
    logger.info("filled")
    return {"size": size}

@kopf.on.delete("example.com", "v1", "boxes")
def empty(logger, **_):
    logger.info("emptied")
PY
  cat >"$work/operator/crd.yaml" <<'YAML'
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boxes.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: boxes, singular: box, kind: Box}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {size: {type: integer}}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
YAML
  box() { printf 'apiVersion: example.com/v1\nkind: Box\nmetadata: {name: %s, namespace: default}\nspec: {size: %s}\n' "$1" "$2" | kubectl apply -f -; }
  volume() { [ "$(kubectl get box "$1" -o jsonpath={.status.volume})" = "$2" ]; }
  step "bring a definition up" bring_up kopf "$work/operator"
  step "wait until it is served" kubectl wait --for condition=Established --timeout 30s crd/boxes.example.com
  background "$PYTHON" -m kopf run --standalone -n default "$work/operator/handlers.py" 2>"$work/kopf.log"
  theirs=${started[-1]}
  step "make an object under the original" box one 3
  step "see what its handler wrote" eventually 60 volume one 27
  kill -TERM "$theirs" && wait "$theirs" 2>/dev/null
  # Its pid may be another program's by the time everything is ended.
  unset 'started[-1]'
  background "$GANTRY" kopf run --python "$PYTHON" --standalone -n default "$work/operator/handlers.py" 2>"$work/gantry-kopf.log"
  step "change it under ours" box one 4
  step "see what its handler wrote now" eventually 60 volume one 64
  step "see the result in the status" eventually 30 says '4' kubectl get box one -o 'jsonpath={.status.fill.size}'
  step "make a mistake" box two -1
  step "read the event about it" eventually 60 says 'TooSmall.*smaller than nothing' kubectl describe box two
  step "delete it, with its handler's leave" kubectl delete box one --timeout 60s
fi
