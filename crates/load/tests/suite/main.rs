//! Runs against a real socket, and scenario files read as a user would write them.

mod report;
mod run;
mod scenario;
mod server;
