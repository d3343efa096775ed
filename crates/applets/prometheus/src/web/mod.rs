//! The web configuration file (`--web.config.file`): TLS, users with passwords, headers of answers.

mod bcrypt;
mod config;
mod guard;

pub use config::WebConfig;
pub(crate) use guard::guard;
