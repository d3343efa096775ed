//! HorizontalPodAutoscaler, and metrics.k8s.io.
