//! Scenarios, users, arrival rates, recorders.
