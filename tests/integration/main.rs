//! All services in one process, as their users meet them: one file for each promise.
#![allow(clippy::unwrap_used, missing_docs)]

mod architecture;
mod asyncapi;
mod auth;
mod bad_input;
mod binary;
mod configuration;
mod connections;
mod delivery;
mod drain;
mod economy;
mod gaps;
mod limits;
mod operator;
mod protocol_page;
mod reach;
mod resume;
mod sessions;
mod settings;
mod tenants;
mod tokens_on_sockets;
mod verbs;
mod watching;
