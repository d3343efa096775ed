//! Remote write, 1.0 and 2.0: the requests, who takes them and who sends them.

pub mod message;
pub mod receiver;
pub mod sender;
