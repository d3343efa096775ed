//! The services of the example shop.
