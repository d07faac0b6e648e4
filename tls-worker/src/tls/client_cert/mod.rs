//! Certificates of clients. `rules` makes ready what a policy asks for, `verify` says what a chain is worth, `verifier`
//! stands in the handshake for rustls, `peer` is what came of it for one connection, `ocsp` asks the control plane what
//! an issuer's responder says, `identity` and `field` are what backends are told.

mod fault;
mod field;
mod identity;
mod ocsp;
mod peer;
mod rules;
mod verifier;
mod verify;

pub use field::client_cert_value;
pub(crate) use ocsp::{Answer, Ocsp};
pub(crate) use peer::Peer;
pub(super) use rules::ClientAuth;
pub use rules::{client_cert_header, client_cert_rules};
pub(super) use verifier::Verifier;

#[cfg(test)]
#[path = "../../../tests/worker/support/ca.rs"]
mod ca;

#[cfg(test)]
mod tests {
    use super::ca::Ca;
    use crate::api::{ClientCertMode, ClientCertRules, Der, ExpiredCrl, OcspMode};

    /// A certificate of one of these authorities is required, at a depth that nothing reaches.
    pub(crate) fn rules(authorities: &[&Ca]) -> ClientCertRules {
        ClientCertRules {
            mode: ClientCertMode::Required,
            roots: authorities.iter().map(|ca| Der(ca.der.clone())).collect(),
            depth: 8,
            crls: vec![],
            expired_crl: ExpiredCrl::Deny,
            ocsp: OcspMode::Off,
            ocsp_responder: None,
        }
    }
}
