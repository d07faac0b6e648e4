//! `bailey cert` on files: they are read and written here, what is between is done in [`crate::cert`].

use super::args_cert::{CertFileVerb, Output};
use super::{say, table_cert};
use crate::cert::blocks::{Block, BlockError, blocks};
use crate::cert::convert::{ConvertError, convert};
use crate::cert::inspect::{self, inspect};
use crate::cert::make::{self, MakeError};
use crate::cert::pair::{self, PairError};
use crate::cert::pkcs12::Pkcs12Error;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;
use zeroize::Zeroizing;

/// A file is at most so long, bytes: revocation lists of large authorities have tens of megabytes.
const MAX_FILE: u64 = 256 << 20;
/// Password files have a line.
const MAX_PASSWORD: u64 = 4096;

/// Why a file was not made or shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum ToolError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// It cannot be written.
    #[error("cannot write {}: {source}", .path.display())]
    Write { path: PathBuf, source: std::io::Error },
    /// It would be lost.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// What it holds is nothing that is known.
    #[error("{}: {error}", .path.display())]
    Blocks { path: PathBuf, error: BlockError },
    /// It does not hold what is wanted.
    #[error("{}: {error}", .path.display())]
    Pair { path: PathBuf, error: PairError },
    /// The first line is no text.
    #[error("{}: the password is no UTF-8", .0.display())]
    Password(PathBuf),
    /// It cannot be made.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// It cannot be converted.
    #[error(transparent)]
    Convert(#[from] ConvertError),
}

impl ToolError {
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            ToolError::Read { .. } => "name a file that this user can read",
            ToolError::Write { .. } => "name a directory that is there and that this user can write to",
            ToolError::Exists(_) => "write to another file, or replace it with --force",
            ToolError::Blocks { .. } => "PEM, DER and PKCS#12 are read",
            ToolError::Pair { error, .. } => match error {
                PairError::Pkcs12(Pkcs12Error::NoPassword) => "name a file that holds it: --password-file FILE",
                other => other.remedy(),
            },
            ToolError::Password(_) => "write the password as UTF-8 in the first line",
            ToolError::Make(error) => error.remedy(),
            ToolError::Convert(error) => error.remedy(),
        }
    }
}

/// Do it, and say how it went.
pub(super) fn run(verb: CertFileVerb, json: bool) -> ExitCode {
    match carry_out(verb, json) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => say::fail(&error, Some(error.remedy()), json),
    }
}

fn carry_out(verb: CertFileVerb, json: bool) -> Result<(), ToolError> {
    let now = SystemTime::now();
    let (to, what) = match verb {
        CertFileVerb::Inspect { files, password_file } => return show(&files, password_file.as_deref(), now, json),
        CertFileVerb::NewKey { kind, to } => {
            // Before a key of RSA is made for nothing.
            refuse_to_replace(&to)?;
            write(&to, make::new_key(kind)?.as_bytes(), true)?;
            (to, "private key")
        }
        CertFileVerb::Request { key, names, must_staple, to } => {
            let made = make::request(&self::key(&key)?, &names.into(), must_staple)?;
            write(&to, made.as_bytes(), false)?;
            (to, "certification request")
        }
        CertFileVerb::SelfSign { key, names, days, ca, to } => {
            let made = make::self_sign(&self::key(&key)?, &names.into(), days, ca, now)?;
            write(&to, made.as_bytes(), false)?;
            (to, if ca { "authority" } else { "certificate" })
        }
        CertFileVerb::Convert { input, form, key, chain, password_file, to } => {
            let password = password_file.as_deref().map(password).transpose()?;
            let password = password.as_deref().map(String::as_str);
            let mut objects = Vec::new();
            for path in [Some(input), chain, key].iter().flatten() {
                objects.extend(open(path, password)?);
            }
            let converted = convert(objects, form, password)?;
            write(&to, &converted.bytes, converted.secret)?;
            (to, "file")
        }
    };
    if json {
        say::print_json(&serde_json::json!({ "written": to.out }), true);
    } else {
        say::print(&format!("{what} written to {}\n", to.out.display()));
    }
    Ok(())
}

fn show(files: &[PathBuf], password_file: Option<&Path>, now: SystemTime, json: bool) -> Result<(), ToolError> {
    let password = password_file.map(password).transpose()?;
    let password = password.as_deref().map(String::as_str);
    let opened = files.iter().map(|path| Ok((path.display().to_string(), open(path, password)?)));
    let objects = inspect(&opened.collect::<Result<Vec<_>, ToolError>>()?, now);
    match json {
        true => say::print_json(&objects, false),
        false => say::print(&table_cert::objects(&objects)),
    };
    Ok(())
}

/// The objects of a file, those in an archive included.
fn open(path: &Path, password: Option<&str>) -> Result<Vec<Block>, ToolError> {
    let bytes = read(path, MAX_FILE)?;
    let found = blocks(&bytes).map_err(|error| ToolError::Blocks { path: path.to_owned(), error })?;
    inspect::open(found, password).map_err(|error| ToolError::Pair { path: path.to_owned(), error })
}

fn key(path: &Path) -> Result<Zeroizing<Vec<u8>>, ToolError> {
    let bytes = read(path, MAX_FILE)?;
    pair::key(&bytes).map_err(|error| ToolError::Pair { path: path.to_owned(), error })
}

fn password(path: &Path) -> Result<Zeroizing<String>, ToolError> {
    let bytes = read(path, MAX_PASSWORD)?;
    pair::password(&bytes).ok_or_else(|| ToolError::Password(path.to_owned()))
}

/// A file's bytes, wiped when they go.
fn read(path: &Path, most: u64) -> Result<Zeroizing<Vec<u8>>, ToolError> {
    let read = || {
        let file = std::fs::File::open(path)?;
        let expected = file.metadata()?.len().min(most) as usize;
        // A pipe tells no size.
        let mut bytes = Zeroizing::new(Vec::with_capacity(expected + 1));
        file.take(most + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > most {
            true => Err(std::io::Error::other(format!("it has more than {most} bytes"))),
            false => Ok(bytes),
        }
    };
    read().map_err(|source| ToolError::Read { path: path.to_owned(), source })
}

fn refuse_to_replace(to: &Output) -> Result<(), ToolError> {
    match !to.force && to.out.exists() {
        true => Err(ToolError::Exists(to.out.clone())),
        false => Ok(()),
    }
}

/// Beside it first, then in its place: whoever watches the file sees the old one or the new one, and a key is never
/// readable by others.
pub(super) fn write(to: &Output, bytes: &[u8], secret: bool) -> Result<(), ToolError> {
    let failed = |source| ToolError::Write { path: to.out.clone(), source };
    let mut name = to.out.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let beside = to.out.with_file_name(name);
    let mode = if secret { 0o600 } else { 0o644 };
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(failed);
    let placed = written.and_then(|()| match to.force {
        true => std::fs::rename(&beside, &to.out).map_err(failed),
        // Unlike a rename, a link replaces nothing.
        false => std::fs::hard_link(&beside, &to.out).map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => ToolError::Exists(to.out.clone()),
            _ => failed(source),
        }),
    });
    // After a rename it is gone already.
    let _ = std::fs::remove_file(&beside);
    placed
}
