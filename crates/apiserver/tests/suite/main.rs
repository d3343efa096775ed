//! The server as its clients see it.

mod crud;
mod harness;
