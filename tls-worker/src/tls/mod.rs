//! TLS towards clients and backends. [`server`] makes a service's policies from the snapshot's words, `accept` does a
//! client's handshake, `resolver` picks its certificate, `client_cert` looks at the client's; [`upstream`] makes what a pool's backends are met with, `verify`
//! decides whom a backend must be; `provider` alone names crypto libraries.

mod accept;
mod client_cert;
mod config;
mod provider;
mod resolver;
mod server;
mod upstream;
mod verify;

pub(crate) use accept::{Accepted, ClientTls, accept, last_words, refuse_plain_http};
pub(crate) use client_cert::{Answer, Ocsp, Peer};
pub use client_cert::{client_cert_header, client_cert_rules, client_cert_value};
pub use config::{TlsError, certified_key};
pub use provider::{known_groups, known_suites, signature_algorithms};
pub use server::server_tls;
pub(crate) use server::{Ready, ServiceTls};
pub(crate) use upstream::{PinMismatch, UpstreamConfigs};
pub use upstream::{UpstreamIdentity, upstream_identity};

#[cfg(test)]
pub(crate) mod tests {
    use crate::api::{Certificate, Der, Secret};
    use rustls::sign::CertifiedKey;
    use std::sync::Arc;

    /// A self-signed certificate for these names, and what rustls makes of it.
    pub(crate) fn certificate(names: &[&str]) -> (Certificate, Arc<CertifiedKey>) {
        let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
        let certificate = Certificate {
            name: names[0].clone(),
            names,
            chain: vec![Der(made.cert.der().to_vec())],
            key: Secret::new(made.signing_key.serialize_der()),
            staple: None,
        };
        let key = super::certified_key(&certificate).unwrap();
        (certificate, key)
    }
}
