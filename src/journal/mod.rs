//! The journal on disk: one hash chain a service. Knows `port/` and `model/` only.
