//! Tests of announce.
