//! Documents: read with places and paths, validated into `model::service` types. Knows `port/` and `model/` only.
