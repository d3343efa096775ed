//! Ingress and Service objects into gateway entities.
