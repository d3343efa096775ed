//! The language as its users write it, its error messages, and that nothing makes it panic.

mod errors;
mod language;
mod robust;
