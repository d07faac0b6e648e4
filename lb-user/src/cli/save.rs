//! `bailey save`: what was changed at run time becomes part of the config file.
//!
//! The command line writes, not the daemon: whoever saves needs the right to write the file, and the daemon needs none.

use super::changes::refused;
use super::save_edit::{Edited, edit};
use super::verbs::Out;
use crate::admin::api::{DiffView, OnlyIf, Reloaded};
use crate::admin::client::{Client, ClientError};
use crate::admin::file_digest;
use crate::config::{self, Host, LoadError};
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

/// What was saved.
#[derive(Debug, Serialize)]
struct SavedView {
    file: String,
    /// None: nothing was written.
    generation: Option<u64>,
    /// Differences that the file cannot say, and why.
    left: Vec<String>,
    /// As `diff -u` shows it.
    patch: String,
}

pub(super) async fn save(dry_run: bool, client: &Client, out: &Out) -> Result<(), ClientError> {
    let diff: DiffView = client.get("/v1/diff").await?;
    let file = Path::new(&diff.file);
    let text =
        std::fs::read_to_string(file).map_err(|error| refused(format!("cannot read {}: {error}", diff.file), None))?;
    if file_digest(text.as_bytes()) != diff.digest {
        let error = format!("{} is not the text that is in force: it was edited since it was read", diff.file);
        return Err(refused(error, Some("have it read first: bailey reload")));
    }
    let Edited { text: edited, left } = edit(&text, &diff).map_err(|why| {
        refused(
            format!("{}: {why}; nothing was written", diff.file),
            Some("edit the file by hand: bailey diff shows what"),
        )
    })?;
    let patch = similar::TextDiff::from_lines(&text, &edited).unified_diff().header(&diff.file, &diff.file).to_string();
    let mut view = SavedView { file: diff.file.clone(), generation: None, left, patch };
    if edited != text {
        check(&edited, file)?;
        if !dry_run {
            put(file, &edited).map_err(|error| {
                let hint = "it takes the right to write the file and its directory; nothing was written";
                refused(format!("cannot write {}: {error}", diff.file), Some(hint))
            })?;
            let reloaded: Reloaded = client.post("/v1/reload", &None::<OnlyIf>).await?;
            view.generation = Some(reloaded.generation);
        }
    }
    out.show(&view, |view| {
        let mut text = view.patch.clone();
        text.extend(view.left.iter().map(|left| format!("stays as a change of run time: {left}\n")));
        text + &match view.generation {
            Some(generation) => format!("{} written and read again, generation {generation}\n", view.file),
            None if view.patch.is_empty() => format!("there is nothing to be written into {}\n", view.file),
            None => "nothing was written\n".into(),
        }
    });
    Ok(())
}

/// What would not be read again is not written.
fn check(text: &str, file: &Path) -> Result<(), ClientError> {
    let problems = match config::parse(text, file, &Host::this()) {
        Ok(_) => return Ok(()),
        Err(LoadError::Invalid(problems)) => problems.views(),
        Err(error) => return Err(refused(error.to_string(), None)),
    };
    let mut error = refused(format!("{} would be no good config; nothing was written", file.display()), None);
    if let ClientError::Refused(failure) = &mut error {
        failure.problems = problems;
    }
    Err(error)
}

/// In place of the old one, with its owner and mode; through a link, where it is one.
fn put(file: &Path, text: &str) -> io::Result<()> {
    let file = std::fs::canonicalize(file)?;
    let meta = std::fs::metadata(&file)?;
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let draft = file.with_file_name(name);
    let written = write(&draft, text, &meta).and_then(|()| std::fs::rename(&draft, &file));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&draft);
        return Err(error);
    }
    match file.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

fn write(draft: &Path, text: &str, meta: &std::fs::Metadata) -> io::Result<()> {
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    new.write_all(text.as_bytes())?;
    let mine = new.metadata()?;
    if (mine.uid(), mine.gid()) != (meta.uid(), meta.gid()) {
        fchown(&new, Some(meta.uid()), Some(meta.gid()))?;
    }
    new.set_permissions(std::fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    new.sync_all()
}
