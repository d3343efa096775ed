//! Rules against storages: what groups do over time, and what reaches an Alertmanager.

mod deliveries;
mod running;
mod unit_tests;
