//! TLS towards clients and backends. [`config`] makes rustls' configurations from the snapshot's words, `accept`
//! does a client's handshake, `resolver` picks its certificate, `verify` decides whom a backend must be, and
//! `provider` alone names the crypto library.

mod accept;
mod config;
mod provider;
mod resolver;
mod verify;

pub(crate) use accept::{ClientTls, accept, refuse_plain_http};
pub use config::{TlsError, UpstreamIdentity, certified_key, upstream_identity};
pub(crate) use config::{server_config, ticketer};

#[cfg(test)]
pub(crate) mod tests {
    use crate::api::{Certificate, Der};
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
            key: Der(made.signing_key.serialize_der()),
        };
        let key = super::certified_key(&certificate).unwrap();
        (certificate, key)
    }
}
