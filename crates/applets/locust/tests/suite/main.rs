//! The applet as a process: against the real Locust where it is, and against raw workers where it is not.

mod harness;
mod master;
mod stock;
