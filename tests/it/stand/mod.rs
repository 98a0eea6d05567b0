//! Stand-ins for services that cannot be had here, and fixtures of real parts. Each misbehaves as its service does.

pub mod authority;
pub mod bind;
pub mod clock;
pub mod cloudflare;
pub mod controller;
pub mod disk;
pub mod host;
pub mod json_schema;
pub mod kinds;
pub mod listener;
pub mod name_server;
pub mod patience;
pub mod postgres;
pub mod proxy;
pub mod rehearsal;
pub mod s3;
pub mod showing;
pub mod slow_dns;
pub mod smtp;
pub mod telegram;
pub mod virtual_time;
pub mod webhook;
pub mod website;
pub mod wiring;
pub mod x;
