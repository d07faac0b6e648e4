//! Everything a person types to develop Bailey.
fn main() {}
