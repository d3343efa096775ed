# The same bytes as kubectl's kustomize, under the name people type, and an error that says where.
needs kubectl && {
  ln -sf "$GANTRY" "$work/kustomize"
  kustomized() { diff <(kubectl kustomize "$1") <("$work/kustomize" build "$1"); }
  step "build the dev overlay as kubectl does" kustomized examples/shop/overlays/dev
  step "build the prod overlay as kubectl does" kustomized examples/shop/overlays/prod
  cp -r examples/shop "$work/shop"
  printf 'resources:\n- ../dev\nnamePrefix: my-\nimages:\n- {name: registry.example.com/shop/catalog, newTag: v9}\n' >"$work/overlay.yaml"
  mkdir -p "$work/shop/overlays/mine" && mv "$work/overlay.yaml" "$work/shop/overlays/mine/kustomization.yaml"
  step "write an overlay of one's own" says 'catalog:v9' "$work/kustomize" build "$work/shop/overlays/mine"
  step "build it as kubectl does" kustomized "$work/shop/overlays/mine"
  sed -i 's/namePrefix: my-/namePrefixx: my-/' "$work/shop/overlays/mine/kustomization.yaml"
  step "be told where a mistake is" refuses 'mine/kustomization.yaml:3:1' "$work/kustomize" build "$work/shop/overlays/mine"
}
