//! The load tester's entry point.
fn main() {}
