//! The kustomize command line.
