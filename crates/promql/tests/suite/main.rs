//! Whole queries: parsing, printing, evaluation, limits.

mod limits;
mod parse_print;
mod robustness;
mod scripts;
