//! The binary `kamil`.
fn main() {}
