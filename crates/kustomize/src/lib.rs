//! Kustomization directories in, objects out.
