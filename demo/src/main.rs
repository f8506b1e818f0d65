//! A product catalogue on async-cache.
fn main() {}
