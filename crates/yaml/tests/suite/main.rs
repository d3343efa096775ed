//! Reading and writing whole documents.

mod documents;
mod stability;
