//! The whole product from outside: the binary, its addresses, real clients. No test looks inside.

mod errors;
mod harness;
mod prove;
mod sharing;
mod survive;
mod verbs;
