//! Parsing and printing of whole queries.

mod parse_print;
