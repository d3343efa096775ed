//! Exposition texts as files, and texts from a seed.

mod garbage;
