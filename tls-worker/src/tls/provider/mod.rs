//! The one place that names crypto libraries, and decides primitive by primitive which serves.
//!
//! ring does everything but three things that aws-lc-rs does: the post-quantum key exchange X25519MLKEM768, which ring
//! has not; X25519, with which a handshake with a P-256 key costs the edge a third less; and RSA signatures, with which one
//! costs about half of what it does by ring (docs/bench.md).

mod ticket;

pub(super) use ticket::ticketer;

use ::ring::digest;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, WebPkiSupportedAlgorithms, aws_lc_rs, ring};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{CipherSuite, NamedGroup, SupportedCipherSuite, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::{Arc, LazyLock};

/// Every suite that is ever served, in the order of Mozilla's "intermediate" (5.7): AES-128 first, as all clients that
/// are asked have it in hardware or prefer ChaCha20 themselves.
static SUITES: [SupportedCipherSuite; 9] = [
    ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
    ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
    ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ring::cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// Every group, most wanted first.
static GROUPS: [&dyn SupportedKxGroup; 4] =
    [aws_lc_rs::kx_group::X25519MLKEM768, ring::kx_group::X25519, ring::kx_group::SECP256R1, ring::kx_group::SECP384R1];

static ALL: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(with(SUITES.to_vec(), GROUPS.to_vec())));

/// Versions of TLS that are ever spoken.
pub(super) static VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// The crypto that TLS runs on, with everything that is ever spoken.
pub(super) fn provider() -> Arc<CryptoProvider> {
    ALL.clone()
}

/// The same with these suites and groups alone, in this order; empty: all.
pub(super) fn provider_of(
    suites: &[SupportedCipherSuite],
    groups: &[&'static dyn SupportedKxGroup],
) -> Arc<CryptoProvider> {
    if suites.is_empty() && groups.is_empty() {
        return provider();
    }
    let suites = if suites.is_empty() { &SUITES } else { suites };
    let groups = if groups.is_empty() { &GROUPS } else { groups };
    Arc::new(with(suites.to_vec(), groups.to_vec()))
}

fn with(cipher_suites: Vec<SupportedCipherSuite>, kx_groups: Vec<&'static dyn SupportedKxGroup>) -> CryptoProvider {
    CryptoProvider { cipher_suites, kx_groups, key_provider: &Keys, ..ring::default_provider() }
}

/// Signatures on certificates and handshakes that are understood.
pub fn signature_algorithms() -> WebPkiSupportedAlgorithms {
    ALL.signature_verification_algorithms
}

/// IANA name of a suite: rustls calls those of TLS 1.3 `TLS13_…`.
fn suite_name(suite: CipherSuite) -> String {
    suite.as_str().map_or_else(|| format!("{:#06x}", u16::from(suite)), |name| name.replace("TLS13_", "TLS_"))
}

/// IANA name of a group.
pub(crate) fn group_name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        NamedGroup::X25519 => "x25519",
        NamedGroup::secp256r1 => "secp256r1",
        NamedGroup::secp384r1 => "secp384r1",
        _ => "other",
    }
}

/// IANA names of the suites that can be served, most wanted first.
pub fn known_suites() -> Vec<String> {
    SUITES.iter().map(|suite| suite_name(suite.suite())).collect()
}

/// IANA names of the groups that can be served, most wanted first.
pub fn known_groups() -> Vec<&'static str> {
    GROUPS.iter().map(|group| group_name(group.name())).collect()
}

/// The suite of an IANA name.
pub(super) fn suite(name: &str) -> Option<SupportedCipherSuite> {
    SUITES.iter().find(|suite| suite_name(suite.suite()) == name).copied()
}

/// The group of an IANA name.
pub(super) fn group(name: &str) -> Option<&'static dyn SupportedKxGroup> {
    GROUPS.iter().find(|group| group_name(group.name()).eq_ignore_ascii_case(name)).copied()
}

/// A certificate with its key; an error where they do not belong together.
pub(super) fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, rustls::Error> {
    CertifiedKey::from_der(chain, key, &ALL)
}

/// SHA-256.
pub(super) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// SHA-1, which secures nothing: some know certificates by it.
pub(super) fn sha1(data: &[u8]) -> impl AsRef<[u8]> {
    digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, data)
}

/// Private keys: RSA by aws-lc-rs, the others by ring.
#[derive(Debug)]
struct Keys;

impl rustls::crypto::KeyProvider for Keys {
    fn load_private_key(&self, key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        let by_ring = match &key {
            PrivateKeyDer::Pkcs8(pkcs8) => {
                ring::sign::any_ecdsa_type(&key).or_else(|_| ring::sign::any_eddsa_type(pkcs8))
            }
            _ => ring::sign::any_ecdsa_type(&key),
        };
        // What is no key of ring's is RSA, P-521, or an error that aws-lc-rs says.
        by_ring.or_else(|_| aws_lc_rs::sign::any_supported_type(&key))
    }
}
