//! Entities, router, balancer, proxy.
