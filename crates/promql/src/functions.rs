//! The functions of PromQL and their signatures.

use crate::ast::ValueType;

/// A function's signature.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: &'static str,
    pub args: &'static [ValueType],
    /// How many of the last arguments may be left out or, when -1, that the last may be repeated. A positive
    /// number above the declared ones allows that many repetitions.
    pub variadic: i32,
    pub returns: ValueType,
    pub experimental: bool,
}

use ValueType::{Matrix, Scalar, String as Text, Vector};

const fn function(name: &'static str, args: &'static [ValueType], returns: ValueType) -> Function {
    Function { name, args, variadic: 0, returns, experimental: false }
}

const fn variadic(name: &'static str, args: &'static [ValueType], variadic: i32) -> Function {
    Function { name, args, variadic, returns: Vector, experimental: false }
}

const fn experimental(inner: Function) -> Function {
    Function {
        name: inner.name,
        args: inner.args,
        variadic: inner.variadic,
        returns: inner.returns,
        experimental: true,
    }
}

/// Every function, sorted by name.
pub static FUNCTIONS: [Function; 90] = [
    function("abs", &[Vector], Vector),
    function("absent", &[Vector], Vector),
    function("absent_over_time", &[Matrix], Vector),
    function("acos", &[Vector], Vector),
    function("acosh", &[Vector], Vector),
    function("asin", &[Vector], Vector),
    function("asinh", &[Vector], Vector),
    function("atan", &[Vector], Vector),
    function("atanh", &[Vector], Vector),
    function("avg_over_time", &[Matrix], Vector),
    function("ceil", &[Vector], Vector),
    function("changes", &[Matrix], Vector),
    function("clamp", &[Vector, Scalar, Scalar], Vector),
    function("clamp_max", &[Vector, Scalar], Vector),
    function("clamp_min", &[Vector, Scalar], Vector),
    function("cos", &[Vector], Vector),
    function("cosh", &[Vector], Vector),
    function("count_over_time", &[Matrix], Vector),
    variadic("day_of_month", &[Vector], 1),
    variadic("day_of_week", &[Vector], 1),
    variadic("day_of_year", &[Vector], 1),
    variadic("days_in_month", &[Vector], 1),
    function("deg", &[Vector], Vector),
    function("delta", &[Matrix], Vector),
    function("deriv", &[Matrix], Vector),
    experimental(function("double_exponential_smoothing", &[Matrix, Scalar, Scalar], Vector)),
    experimental(function("end", &[], Scalar)),
    function("exp", &[Vector], Vector),
    experimental(function("first_over_time", &[Matrix], Vector)),
    function("floor", &[Vector], Vector),
    function("histogram_avg", &[Vector], Vector),
    function("histogram_count", &[Vector], Vector),
    function("histogram_fraction", &[Scalar, Scalar, Vector], Vector),
    function("histogram_quantile", &[Scalar, Vector], Vector),
    experimental(variadic("histogram_quantiles", &[Vector, Text, Scalar, Scalar], 9)),
    function("histogram_stddev", &[Vector], Vector),
    function("histogram_stdvar", &[Vector], Vector),
    function("histogram_sum", &[Vector], Vector),
    variadic("hour", &[Vector], 1),
    function("idelta", &[Matrix], Vector),
    function("increase", &[Matrix], Vector),
    experimental(variadic("info", &[Vector, Vector], 1)),
    function("irate", &[Matrix], Vector),
    variadic("label_join", &[Vector, Text, Text, Text], -1),
    function("label_replace", &[Vector, Text, Text, Text, Text], Vector),
    function("last_over_time", &[Matrix], Vector),
    function("ln", &[Vector], Vector),
    function("log10", &[Vector], Vector),
    function("log2", &[Vector], Vector),
    experimental(function("mad_over_time", &[Matrix], Vector)),
    experimental(function("max_of", &[Scalar, Scalar], Scalar)),
    function("max_over_time", &[Matrix], Vector),
    experimental(function("min_of", &[Scalar, Scalar], Scalar)),
    function("min_over_time", &[Matrix], Vector),
    variadic("minute", &[Vector], 1),
    variadic("month", &[Vector], 1),
    function("pi", &[], Scalar),
    function("predict_linear", &[Matrix, Scalar], Vector),
    function("present_over_time", &[Matrix], Vector),
    function("quantile_over_time", &[Scalar, Matrix], Vector),
    function("rad", &[Vector], Vector),
    experimental(function("range", &[], Scalar)),
    function("rate", &[Matrix], Vector),
    function("resets", &[Matrix], Vector),
    variadic("round", &[Vector, Scalar], 1),
    function("scalar", &[Vector], Scalar),
    function("sgn", &[Vector], Vector),
    function("sin", &[Vector], Vector),
    function("sinh", &[Vector], Vector),
    function("sort", &[Vector], Vector),
    experimental(variadic("sort_by_label", &[Vector, Text], -1)),
    experimental(variadic("sort_by_label_desc", &[Vector, Text], -1)),
    function("sort_desc", &[Vector], Vector),
    function("sqrt", &[Vector], Vector),
    experimental(function("start", &[], Scalar)),
    experimental(function("start_timestamp", &[Vector], Vector)),
    function("stddev_over_time", &[Matrix], Vector),
    function("stdvar_over_time", &[Matrix], Vector),
    experimental(function("step", &[], Scalar)),
    function("sum_over_time", &[Matrix], Vector),
    function("tan", &[Vector], Vector),
    function("tanh", &[Vector], Vector),
    function("time", &[], Scalar),
    function("timestamp", &[Vector], Vector),
    experimental(function("ts_of_first_over_time", &[Matrix], Vector)),
    experimental(function("ts_of_last_over_time", &[Matrix], Vector)),
    experimental(function("ts_of_max_over_time", &[Matrix], Vector)),
    experimental(function("ts_of_min_over_time", &[Matrix], Vector)),
    function("vector", &[Scalar], Vector),
    variadic("year", &[Vector], 1),
];

/// The function of that name; names are case-sensitive.
pub fn find_function(name: &str) -> Option<&'static Function> {
    let index = FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok()?;
    FUNCTIONS.get(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_for_the_search() {
        assert!(FUNCTIONS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(find_function("rate").is_some_and(|rate| rate.args == [ValueType::Matrix]));
        assert!(find_function("Rate").is_none());
    }
}
