//! TLS in the model: certificates with where they came from, `[tls]`, and the files that were read.

use crate::cert::Facts;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tls_worker::api::{self, Der, Secret};

/// `[tls]`: what holds for the whole edge.
#[derive(Debug, Clone, PartialEq)]
pub struct Tls {
    /// Keys of the file `ticket_keys`, in the order of [`api::TicketKeys`]: the first encrypts. None: there is no such
    /// file, keys are made at random.
    pub ticket_keys: Option<Vec<Secret>>,
    /// Life of a ticket, and of a random key.
    pub ticket_lifetime: Duration,
    /// How often [`super::Config::files`] are looked at; none: never.
    pub watch: Option<Duration>,
    /// Bounds of handshakes.
    pub handshakes: api::HandshakeLimits,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            ticket_keys: None,
            ticket_lifetime: Duration::from_secs(8 * 3_600),
            watch: Some(Duration::from_secs(5)),
            handshakes: api::HandshakeLimits::default(),
        }
    }
}

/// `[certificate.NAME]`: what is served, and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate {
    /// What the worker gets, without a staple.
    pub certificate: api::Certificate,
    /// Where it came from.
    pub source: CertificateSource,
    /// What its leaf says.
    pub facts: Facts,
    /// Whether its state is to be fetched and stapled.
    pub stapling: bool,
    /// Whom to ask: the key `ocsp_responder`, else what the leaf names. With `stapling` always there.
    pub responder: Option<String>,
    /// The certificate of its issuer, where a file held it. With `stapling` always there.
    pub issuer: Option<Der>,
}

impl Certificate {
    /// Name in the config.
    pub fn name(&self) -> &str {
        &self.certificate.name
    }
}

/// Where a certificate came from; absolute paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// Chain and key apart.
    Files {
        /// `chain`
        chain: PathBuf,
        /// `key`
        key: PathBuf,
    },
    /// Both in one.
    Pkcs12 {
        /// `file`
        file: PathBuf,
        /// `password_file`
        password_file: Option<PathBuf>,
    },
}

/// A file that the config was made from, as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedFile {
    /// Absolute.
    pub path: PathBuf,
    /// None: it could not be opened.
    pub fingerprint: Option<Fingerprint>,
}

impl WatchedFile {
    /// Whether there is another file now, or the same with other bytes; by its metadata alone.
    pub fn has_changed(&self) -> bool {
        Fingerprint::of(&self.path) != self.fingerprint
    }
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds. The second of them changes also where a copy keeps the first.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    /// Of what stands at a path, links followed; none: nothing that can be looked at.
    pub fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|meta| Self::from(&meta))
    }
}

impl From<&std::fs::Metadata> for Fingerprint {
    fn from(meta: &std::fs::Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// Lists of certificates and CRLs that files hold, and keys of tickets: what a file that went bad is replaced by.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FileContents {
    /// Certificates of a bundle, by path.
    pub(in crate::config) authorities: BTreeMap<PathBuf, Arc<[Der]>>,
    /// Revocation lists, by path.
    pub(in crate::config) crls: BTreeMap<PathBuf, Arc<[Der]>>,
    /// Keys of sessions' cookies, by path.
    pub(in crate::config) session_keys: BTreeMap<PathBuf, Arc<[Secret]>>,
    /// Passwords of health checks, by path; one each.
    pub(in crate::config) passwords: BTreeMap<PathBuf, Arc<[Secret]>>,
    /// The host's own roots, once they were asked for.
    pub(in crate::config) system: Option<Arc<[Der]>>,
}
