//! The guard beside a database: what it decides (`machine`). Knows `port/` and `model/` only.

pub mod machine;
