//! The service over invented data, and the page in a real browser.

mod browser;
mod http;
#[path = "../../examples/demo/load.rs"]
mod load;
#[path = "../../examples/demo/source.rs"]
mod source;
