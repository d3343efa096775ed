//! Deployment, ReplicaSet, EndpointSlice, garbage collection, namespaces.
