//! The whole product from outside: the binary, its addresses, real clients. No test looks inside.

mod errors;
mod harness;
mod load_page;
mod prove;
mod survive;
mod verbs;
