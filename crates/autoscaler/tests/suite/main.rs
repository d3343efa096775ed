//! The autoscaler against the API server, the controllers and a node that runs real processes.

mod custom;
mod scaling;
