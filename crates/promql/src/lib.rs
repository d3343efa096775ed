//! Parse, print, plan and evaluate PromQL over any Queryable.
//!
//! The engine is synchronous and works on the processor only; it holds no state between queries. It evaluates
//! series by series: a selector's samples are read into columns, computed for all steps at once, and handed on
//! before the next series is read.
#![forbid(unsafe_code)]

mod annotations;
pub mod ast;
mod calendar;
mod engine;
mod eval;
mod functions;
mod parser;
mod pretty;
mod printer;
pub mod testing;
mod value;

pub use engine::{Cancellation, Engine, EngineOptions, QueryError};
pub use functions::{FUNCTIONS, Function, find_function};
pub use parser::{ParseError, parse, parse_selector};
pub use value::{MatrixSeries, Point, QueryResult, QueryStats, QueryValue, Value, VectorSample};
