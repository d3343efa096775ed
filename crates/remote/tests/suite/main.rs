//! The protocols against real stores: each rule of the specifications that a test can see is a test of its name.

mod common;
mod reading;
mod receiver_v1;
mod receiver_v2;
mod sender;
