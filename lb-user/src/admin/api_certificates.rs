//! JSON of certificates and of what TLS agrees on.

use crate::config::ProblemView;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A certificate at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CertificateRow {
    /// Name in the config.
    pub name: String,
    /// Names that it is for (subjectAltName).
    pub names: Vec<String>,
    /// Distinguished name of its issuer.
    pub issuer: String,
    /// Kind of its key: `ECDSA P-256`, `RSA 2048`.
    pub key: String,
    /// Whole days until its end; negative: since.
    pub days_left: i64,
    /// `service NAME`, `pool NAME`.
    pub used_by: Vec<String>,
    /// Its staple.
    pub staple: StapleView,
    /// Whether its files cannot be used, and what they held before serves.
    pub stale: bool,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CertificateView {
    /// At a glance.
    #[serde(flatten)]
    pub row: CertificateRow,
    /// Distinguished name.
    pub subject: String,
    /// Hexadecimal.
    pub serial: String,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
    /// Algorithm that its issuer signed with.
    pub signature: String,
    /// SHA-256 of the DER, hexadecimal.
    pub fingerprint: String,
    /// Certificates that are sent, this one included.
    pub chain: usize,
    /// Whether clients are told to insist on a staple (RFC 7633).
    pub must_staple: bool,
    /// Responder that is asked.
    pub responder: Option<String>,
    /// Files that it is read from.
    pub files: Vec<String>,
    /// What is wrong with them.
    pub problem: Option<ProblemView>,
}

/// A staple.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StapleView {
    /// `off`, `good` (one is sent), `revoked`, `none`.
    pub state: String,
    /// Seconds until its end.
    pub valid_seconds: Option<u64>,
    /// Seconds since the responder said it.
    pub age_seconds: Option<u64>,
    /// Why there is no newer one.
    pub problem: Option<String>,
}

/// Files of TLS were read again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CertificatesReloaded {
    /// Generation in force.
    pub generation: u64,
    /// What is served otherwise than before.
    pub changed: Vec<String>,
    /// Files that cannot be used; what they held before serves on.
    pub stale: Vec<StaleView>,
    /// What the files are warned of.
    pub warnings: Vec<ProblemView>,
}

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StaleView {
    /// `certificate`, `authorities`, `crl`, `ticket_keys`.
    pub kind: String,
    /// Name of the certificate, else the file.
    pub name: String,
    /// What is wrong, and what to do.
    pub problem: ProblemView,
}

/// What holds for connections that ask for certain names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyView {
    /// Empty: every name that no other policy has.
    pub names: Vec<String>,
    /// Names; the first is the default.
    pub certificates: Vec<String>,
    /// `1.2` or `1.3`.
    pub min_tls: String,
    /// `1.2` or `1.3`.
    pub max_tls: String,
    /// IANA names, most wanted first.
    pub suites: Vec<String>,
    /// IANA names, most wanted first.
    pub groups: Vec<String>,
    /// None: clients are asked for none.
    pub client_cert: Option<ClientCertView>,
    /// Value of Strict-Transport-Security.
    pub hsts: Option<String>,
}

/// What is asked of a client's certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientCertView {
    /// `optional`, `optional-any`, `required`.
    pub mode: String,
    /// Roots that it may come from.
    pub authorities: usize,
    /// Certificates between it and a root, at most.
    pub depth: u8,
    /// Revocation lists.
    pub crls: usize,
    /// `off`, `optional`, `required`.
    pub ocsp: String,
}

/// Counters of a service's handshakes, by word.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HandshakesView {
    /// `1.2`, `1.3`.
    pub versions: BTreeMap<String, u64>,
    /// `full`, `resumed`, `retried`.
    pub sessions: BTreeMap<String, u64>,
    /// Key exchange groups.
    pub groups: BTreeMap<String, u64>,
    /// Reasons of failures.
    pub failures: BTreeMap<String, u64>,
    /// Bounds that connections were closed for.
    pub refused: BTreeMap<String, u64>,
    /// What came of asking clients for certificates.
    pub client_certs: BTreeMap<String, u64>,
}
