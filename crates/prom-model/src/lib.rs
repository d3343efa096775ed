//! Labels, matchers, samples, exposition formats, and the instruments every room counts with.
