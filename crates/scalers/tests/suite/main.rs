//! Sources against the real servers: each test starts its own and says what is missing where there is none.

mod postgres;
mod redis;
mod server;
