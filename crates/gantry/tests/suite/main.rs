//! The whole product from outside: the binary, its addresses, real clients. No test looks inside.

mod dashboards;
mod errors;
mod harness;
mod prove;
mod survive;
mod verbs;
