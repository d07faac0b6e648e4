//! What the config says of TLS: [`global`] reads `[tls]`, [`policy`] the `[tls_policy.NAME]`, [`service`] what a service
//! offers and asks for, [`upstream`] what a pool's backends are met with.

mod client_cert;
pub(super) mod global;
mod headers;
mod hsts;
pub(super) mod policy;
pub(super) mod service;
mod sni;
mod tickets;
pub(super) mod upstream;
pub(super) mod words;

pub(super) use headers::client_cert_headers;
pub(super) use tickets::keys as ticket_keys;
