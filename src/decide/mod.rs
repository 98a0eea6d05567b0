//! The pure core: no async, no IO, no clock, no randomness. Knows `model/` only.
