//! The whole product from outside: the binary, its addresses, real clients. No test looks inside.

mod errors;
mod harness;
mod hostile;
mod prove;
mod reload;
mod survive;
mod verbs;
mod wake;
