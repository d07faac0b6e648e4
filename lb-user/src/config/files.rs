//! Files that a config names, read once each, bounded, and noted for those who watch them. Where a config is refreshed, what
//! a bad file held before stands in for it.

use super::model::{Certificate, Config, FileContents, Fingerprint, WatchedFile};
use super::problem::{Problem, ProblemView, Problems};
use super::section::At;
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tls_worker::api::{Der, Secret};
use zeroize::Zeroizing;

/// Files of certificates and keys are at most so long, bytes: a bundle of all public roots has a quarter of it.
pub(super) const MAX_PEM: u64 = 1 << 20;
/// Revocation lists of large authorities have tens of megabytes.
pub(super) const MAX_CRL: u64 = 64 << 20;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// A certificate, with its key or password.
    Certificate,
    /// Certificates of authorities.
    Authorities,
    /// Revocation lists.
    Crl,
    /// Keys of tickets.
    TicketKeys,
    /// Keys of sessions' cookies.
    SessionKeys,
    /// A password of a health check.
    Password,
}

impl FileKind {
    /// One word, for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            FileKind::Certificate => "certificate",
            FileKind::Authorities => "authorities",
            FileKind::Crl => "crl",
            FileKind::TicketKeys => "ticket_keys",
            FileKind::SessionKeys => "session_keys",
            FileKind::Password => "password",
        }
    }
}

/// What went bad on disk, and what it held before still serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// What it is for.
    pub kind: FileKind,
    /// The certificate's name, else the path.
    pub name: String,
    /// What is wrong.
    pub problem: ProblemView,
}

/// What [`Stale`] is made of while the text is read.
pub(super) struct Fallen {
    pub(super) kind: FileKind,
    pub(super) name: String,
    pub(super) problem: Problem,
}

/// The files of one reading.
pub(super) struct Files<'a> {
    /// Relative paths begin here.
    pub(super) dir: &'a Path,
    previous: Option<&'a Config>,
    seen: Vec<WatchedFile>,
    contents: FileContents,
    fallen: Vec<Fallen>,
}

/// Why what a file holds is not what is wanted.
pub(super) struct Bad {
    pub(super) message: String,
    pub(super) help: String,
}

impl<'a> Files<'a> {
    pub(super) fn new(dir: &'a Path, previous: Option<&'a Config>) -> Self {
        Files { dir, previous, seen: Vec::new(), contents: FileContents::default(), fallen: Vec::new() }
    }

    /// What was read, for the model, and what fell back.
    pub(super) fn finish(self) -> (Vec<WatchedFile>, FileContents, Vec<Fallen>) {
        (self.seen, self.contents, self.fallen)
    }

    /// Where files of prefixes are; none: they are not read again, those in force stay.
    pub(super) fn prefix_dir(&self) -> Option<&'a Path> {
        self.previous.is_none().then_some(self.dir)
    }

    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.dir.join(text)
    }

    /// The bytes of a file, wiped when they go.
    pub(super) fn read(&mut self, at: &At<&str>, most: u64) -> Result<Zeroizing<Vec<u8>>, Box<Problem>> {
        let path = self.path(at.value);
        self.bytes(&path, most).map_err(|error| {
            let help = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    format!("there is no {}; a relative path begins at the config's directory", path.display())
                }
                std::io::ErrorKind::PermissionDenied => format!("let this user read {}", path.display()),
                _ => format!("look at {}", path.display()),
            };
            Box::new(Problem::error(at.span.clone(), format!("cannot read {:?}: {error}", at.value)).help(help))
        })
    }

    fn bytes(&mut self, path: &Path, most: u64) -> std::io::Result<Zeroizing<Vec<u8>>> {
        // A pipe would be waited for.
        let opened = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let opened = opened.and_then(|file| Ok((file.metadata()?, file)));
        // Before it is read: what is written meanwhile shows as a change.
        let fingerprint = opened.as_ref().ok().map(|(meta, _)| Fingerprint::from(meta));
        if !self.seen.iter().any(|seen| seen.path == path) {
            self.seen.push(WatchedFile { path: path.to_owned(), fingerprint });
        }
        let (meta, mut file) = opened?;
        if !meta.is_file() || meta.len() > most {
            return Err(std::io::Error::other(format!("not a file of at most {most} bytes")));
        }
        // Of its size at once: a buffer that grows leaves copies behind.
        let mut bytes = Zeroizing::new(vec![0; meta.len() as usize]);
        file.read_exact(&mut bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => std::io::Error::other("it became shorter while it was read"),
            _ => error,
        })?;
        Ok(bytes)
    }

    /// Tell of a file of secrets that others can read.
    pub(super) fn tell_of_open_mode(&self, what: &str, at: &At<&str>, p: &mut Problems) {
        let path = self.path(at.value);
        let mode = std::fs::metadata(&path).map(|meta| meta.permissions().mode()).unwrap_or(0);
        let (who, change) = match mode {
            mode if mode & 0o004 != 0 => ("every user", "o-rwx"),
            mode if mode & 0o040 != 0 && !root_group(&path) => ("the users of its group", "g-rwx"),
            _ => return,
        };
        p.push(
            Problem::warning(at.span.clone(), format!("{what} {:?} can be read by {who} of this host", at.value))
                .help(format!("chmod {change} {}", path.display())),
        );
    }

    /// A certificate, else what it was before.
    pub(super) fn fall_back(&mut self, name: &str, problem: &Problem) -> Option<Certificate> {
        let before = self.previous?.certificate(name)?.clone();
        self.fallen.push(Fallen { kind: FileKind::Certificate, name: name.into(), problem: problem.clone() });
        Some(before)
    }

    /// Certificates of authorities, DER.
    pub(super) fn authorities(
        &mut self,
        at: &At<&str>,
        p: &mut Problems,
        parse: impl FnOnce(&[u8]) -> Result<Vec<Der>, Bad>,
    ) -> Option<Arc<[Der]>> {
        let path = self.path(at.value);
        if let Some(known) = self.contents.authorities.get(&path) {
            return Some(known.clone());
        }
        let before = self.previous.and_then(|previous| previous.contents.authorities.get(&path)).cloned();
        let list = self.list(at, p, (FileKind::Authorities, MAX_PEM), before, parse)?;
        self.contents.authorities.insert(path, list.clone());
        Some(list)
    }

    /// Revocation lists, DER.
    pub(super) fn crls(
        &mut self,
        at: &At<&str>,
        p: &mut Problems,
        parse: impl FnOnce(&[u8]) -> Result<Vec<Der>, Bad>,
    ) -> Option<Arc<[Der]>> {
        let path = self.path(at.value);
        if let Some(known) = self.contents.crls.get(&path) {
            return Some(known.clone());
        }
        let before = self.previous.and_then(|previous| previous.contents.crls.get(&path)).cloned();
        let list = self.list(at, p, (FileKind::Crl, MAX_CRL), before, parse)?;
        self.contents.crls.insert(path, list.clone());
        Some(list)
    }

    /// Keys of tickets.
    pub(super) fn ticket_keys(
        &mut self,
        at: &At<&str>,
        p: &mut Problems,
        parse: impl FnOnce(&[u8]) -> Result<Vec<Secret>, Bad>,
    ) -> Option<Vec<Secret>> {
        let before = self.previous.and_then(|previous| previous.tls.ticket_keys.clone());
        self.list(at, p, (FileKind::TicketKeys, MAX_PEM), before.map(Arc::from), parse).map(|keys| keys.to_vec())
    }

    /// Keys of sessions' cookies.
    pub(super) fn session_keys(
        &mut self,
        at: &At<&str>,
        p: &mut Problems,
        parse: impl FnOnce(&[u8]) -> Result<Vec<Secret>, Bad>,
    ) -> Option<Arc<[Secret]>> {
        let path = self.path(at.value);
        let before = self.previous.and_then(|previous| previous.contents.session_keys.get(&path)).cloned();
        let keys = self.list(at, p, (FileKind::SessionKeys, MAX_PEM), before, parse)?;
        self.contents.session_keys.insert(path, keys.clone());
        Some(keys)
    }

    /// A password.
    pub(super) fn password(
        &mut self,
        at: &At<&str>,
        p: &mut Problems,
        parse: impl FnOnce(&[u8]) -> Result<Vec<Secret>, Bad>,
    ) -> Option<Secret> {
        let path = self.path(at.value);
        let before = self.previous.and_then(|previous| previous.contents.passwords.get(&path)).cloned();
        let password = self.list(at, p, (FileKind::Password, MAX_PEM), before, parse)?;
        self.contents.passwords.insert(path, password.clone());
        password.first().cloned()
    }

    fn list<T>(
        &mut self,
        at: &At<&str>,
        p: &mut Problems,
        (kind, most): (FileKind, u64),
        before: Option<Arc<[T]>>,
        parse: impl FnOnce(&[u8]) -> Result<Vec<T>, Bad>,
    ) -> Option<Arc<[T]>> {
        let parsed = self.read(at, most).and_then(|bytes| {
            parse(&bytes).map_err(|bad| {
                Box::new(Problem::error(at.span.clone(), format!("{:?}: {}", at.value, bad.message)).help(bad.help))
            })
        });
        match (parsed, before) {
            (Ok(list), _) => Some(list.into()),
            (Err(problem), Some(before)) => {
                self.fallen.push(Fallen { kind, name: self.path(at.value).display().to_string(), problem: *problem });
                Some(before)
            }
            (Err(problem), None) => {
                p.push(*problem);
                None
            }
        }
    }

    /// The host's own roots, looked up once in the life of a config's text.
    pub(super) fn system_roots(&mut self, load: impl FnOnce() -> Vec<Der>) -> Arc<[Der]> {
        let before = self.previous.and_then(|previous| previous.contents.system.clone());
        self.contents.system.get_or_insert_with(|| before.unwrap_or_else(|| load().into())).clone()
    }
}

/// Members of root's group read what root reads.
fn root_group(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).is_ok_and(|meta| meta.gid() == 0)
}
