//! The node against the API server and the controllers, in process.

mod pods;
mod streams;
