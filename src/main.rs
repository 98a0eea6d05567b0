//! The `failover` program.

fn main() {}
