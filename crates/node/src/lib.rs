//! Runs pods as processes: probes, volumes, restarts, logs, resource usage.
