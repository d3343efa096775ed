//! Parse, print, plan and evaluate PromQL over any Queryable.
