//! The demo.
mod account;
mod address;
mod host;
mod outside;
mod postgres;
mod process;
mod relay;
mod shop;
