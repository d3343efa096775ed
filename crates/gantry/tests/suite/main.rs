//! The whole product from outside: the binary, its addresses, real clients. No test looks inside.

mod dashboards;
mod errors;
mod harness;
mod hostile;
mod isolation;
mod kong;
mod kopf;
mod load_page;
mod object_metrics;
mod prove;
mod queue;
mod reload;
mod sharing;
mod survive;
mod verbs;
mod wake;
