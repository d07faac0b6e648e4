//! The TLS of a [`super::Snapshot`]: certificates, what clients are offered and asked for, what backends are shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// TLS towards the clients of a service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServerTls {
    /// By the name that a client asks for (SNI). The first is for every name that no other takes, and for clients
    /// that name none; its `names` are empty.
    pub policies: Vec<SniPolicy>,
    /// A client that asks for a name which no certificate and no policy has, or for none, is refused with the alert
    /// `unrecognized_name` (RFC 6066, 3) instead of getting the first certificate.
    pub strict_sni: bool,
    /// What ALPN offers, most wanted first (RFC 7301). Empty: ALPN is not answered.
    pub alpn: Vec<String>,
}

/// What holds for connections that ask for certain names.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SniPolicy {
    /// Lower case; exact, or `*.` in front, which stands for one label.
    pub names: Vec<String>,
    /// Into [`super::Snapshot::certificates`]; picked by SNI and by what the client can verify. The first is the
    /// default.
    pub certificates: Vec<usize>,
    /// Versions, suites, groups.
    pub protocol: Protocol,
    /// Whether clients are asked for a certificate; none: no.
    pub client_cert: Option<ClientCertRules>,
    /// Value of `Strict-Transport-Security` (RFC 6797) on every response; none: the backend's own is left.
    pub hsts: Option<String>,
}

/// What a handshake may agree on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    /// Lowest version.
    pub min_version: TlsVersion,
    /// Highest version.
    pub max_version: TlsVersion,
    /// IANA names (`TLS13_AES_128_GCM_SHA256` is written `TLS_AES_128_GCM_SHA256`), most wanted first. Empty: all
    /// that are known ([`super::tls::known_suites`]), in Mozilla's order.
    pub suites: Vec<String>,
    /// IANA names (`X25519MLKEM768`, `x25519`, `secp256r1`, `secp384r1`), most wanted first. Empty: all that are
    /// known ([`super::tls::known_groups`]).
    pub groups: Vec<String>,
}

impl Default for Protocol {
    fn default() -> Self {
        Protocol { min_version: TlsVersion::V12, max_version: TlsVersion::V13, suites: Vec::new(), groups: Vec::new() }
    }
}

/// Versions of TLS that are ever spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TlsVersion {
    /// RFC 5246
    #[serde(rename = "1.2")]
    V12,
    /// RFC 8446
    #[serde(rename = "1.3")]
    V13,
}

/// What is asked of a client's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCertRules {
    /// What happens without a good one.
    pub mode: ClientCertMode,
    /// Whom a certificate must come from, DER; also the names told to clients. Never empty but for
    /// [`ClientCertMode::OptionalAny`].
    pub roots: Vec<Der>,
    /// Certificates between the client's and a root, at most.
    pub depth: u8,
    /// Revocation lists, DER. Where there is one of an issuer, it counts for what that issuer signed; an issuer
    /// without one revokes nothing.
    pub crls: Vec<Der>,
    /// What a list past its `nextUpdate` is worth.
    pub expired_crl: ExpiredCrl,
    /// Whether the issuer's responder is asked.
    pub ocsp: OcspMode,
    /// URL that is asked instead of the one that the certificate names.
    pub ocsp_responder: Option<String>,
}

/// What happens without a good client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertMode {
    /// Asked for; without one, or with a bad one, the client goes on as one without a certificate.
    Optional,
    /// Asked for; any is taken whose key the client has, and what its check said is told to the backend.
    OptionalAny,
    /// Without a good one there is no connection.
    Required,
}

/// What a revocation list past its `nextUpdate` is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiredCrl {
    /// Certificates that it would decide about are refused.
    Deny,
    /// It counts as if it were current.
    Allow,
}

/// Whether a client certificate's state is asked of its issuer's responder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OcspMode {
    /// No.
    Off,
    /// Revoked: refused. No usable answer: taken.
    Optional,
    /// Only what the responder calls good is taken.
    Required,
}

/// What a backend is told of a client certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCertHeader {
    /// Request header, lower case. Requests that come with one lose it, on every service.
    pub name: String,
    /// Its value.
    pub value: ClientCertField,
}

/// A part of a client certificate, as a header's value: printable ASCII. Without a certificate there is no header, but for
/// `Verify`; nor where the certificate has no such part, or its value would be longer than 16 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertField {
    /// PEM on one line, line breaks as spaces (NetScaler's `-certHeader`).
    Pem,
    /// PEM, percent-encoded (nginx's `$ssl_client_escaped_cert`).
    PemUrlencoded,
    /// `Client-Cert` of RFC 9440: the leaf's DER as a structured field's byte sequence.
    Rfc9440,
    /// `Client-Cert-Chain` of RFC 9440: what the client sent besides.
    Rfc9440Chain,
    /// Distinguished name of the subject (RFC 4514); what is not ASCII is written `\xx` by its bytes.
    Subject,
    /// Distinguished name of the issuer (RFC 4514).
    Issuer,
    /// Serial number, hexadecimal, upper case.
    Serial,
    /// SHA-256 of the DER, hexadecimal, lower case.
    Fingerprint,
    /// SHA-1 of the DER, hexadecimal, lower case (what the appliance calls fingerprint).
    FingerprintSha1,
    /// Begin of validity, RFC 3339.
    NotBefore,
    /// End of validity, RFC 3339.
    NotAfter,
    /// Names of subjectAltName, `DNS:…, email:…, URI:…, IP:…`. Within a name a comma is `\,`, a space `\20`: the escapes
    /// of RFC 4514.
    San,
    /// `SUCCESS`, `NONE` or `FAILED:reason` (nginx's `$ssl_client_verify`).
    Verify,
}

/// Every field.
pub const ALL_CLIENT_CERT_FIELDS: [ClientCertField; 13] = [
    ClientCertField::Pem,
    ClientCertField::PemUrlencoded,
    ClientCertField::Rfc9440,
    ClientCertField::Rfc9440Chain,
    ClientCertField::Subject,
    ClientCertField::Issuer,
    ClientCertField::Serial,
    ClientCertField::Fingerprint,
    ClientCertField::FingerprintSha1,
    ClientCertField::NotBefore,
    ClientCertField::NotAfter,
    ClientCertField::San,
    ClientCertField::Verify,
];

/// A certificate chain with its key.
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Certificate {
    /// Name in the config.
    pub name: String,
    /// DNS names (also `*.example.com`) that it is served for, lower case.
    pub names: Vec<String>,
    /// DER, leaf first.
    pub chain: Vec<Der>,
    /// PKCS#8, PKCS#1 or SEC1 private key, DER.
    pub key: Secret,
    /// The responder's word that it is good (RFC 6960 OCSPResponse, DER), stapled to handshakes.
    #[serde(default)]
    pub staple: Option<Der>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key stays out of every log.
        f.debug_struct("Certificate").field("name", &self.name).field("names", &self.names).finish_non_exhaustive()
    }
}

/// TLS towards a backend.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct UpstreamTls {
    /// Whether chain and name are verified.
    pub verify: bool,
    /// Trusted roots, DER. The control plane fills in the system's.
    pub roots: Vec<Der>,
    /// Name that is verified, and sent as SNI; none: the backend's IP address is verified and no SNI is sent.
    pub server_name: Option<String>,
    /// Another name to send as SNI; only with `server_name` or without verification.
    #[serde(default)]
    pub sni: Option<String>,
    /// SHA-256 of the SubjectPublicKeyInfo, one of which the backend's key must have (RFC 7469, 2.4); empty: any.
    /// They hold also without `verify`.
    #[serde(default)]
    pub pins: Vec<[u8; 32]>,
    /// Shown to backends that ask.
    #[serde(default)]
    pub certificate: Option<Certificate>,
    /// Versions, suites, groups.
    #[serde(default)]
    pub protocol: Protocol,
    /// What ALPN offers. For requests: `h2`, `http/1.1`; empty: `http/1.1`.
    #[serde(default)]
    pub alpn: Vec<String>,
}

/// A ticket key has at least so many bytes of randomness.
pub const MIN_TICKET_KEY: usize = 32;
/// Longest life of a ticket, seconds: seven days (RFC 8446, 4.6.1).
pub const MAX_TICKET_LIFETIME: u32 = 604_800;

/// Keys of session tickets, of all services: each service derives its own from them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TicketKeys {
    /// Of at least [`MIN_TICKET_KEY`] random bytes each. The first encrypts, all decrypt. Empty: no sessions are resumed.
    pub keys: Vec<Secret>,
    /// Life of a ticket, at most [`MAX_TICKET_LIFETIME`].
    pub lifetime_seconds: u32,
}

/// DER bytes; base64 on the wire.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Der(pub Vec<u8>);

impl std::fmt::Debug for Der {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Der({} bytes)", self.0.len())
    }
}

impl Serialize for Der {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Der {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        STANDARD.decode(text).map(Der).map_err(serde::de::Error::custom)
    }
}

/// Bytes that are wiped when they go, and that no log shows; base64 on the wire.
#[derive(Clone, PartialEq, Eq, Default, Zeroize, ZeroizeOnDrop)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Take these bytes over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Secret(bytes)
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&Zeroizing::new(STANDARD.encode(&self.0)))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(d)?);
        STANDARD.decode(text.as_bytes()).map(Secret).map_err(serde::de::Error::custom)
    }
}
