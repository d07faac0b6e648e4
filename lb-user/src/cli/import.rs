//! `bailey import`: another product's config is read, ours is written, and what is to be said of it is told by line.

use super::args_tools::ImportVerb;
use super::cert::write;
use super::say::{self, Tone, paint};
use crate::import::{Fate, Imported, netscaler};
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

/// A config is at most so long, bytes.
const MAX_FILE: u64 = 64 << 20;

/// Read, make, write, tell.
pub(super) fn run(verb: ImportVerb, json: bool) -> ExitCode {
    let ImportVerb::Netscaler { input, to } = verb;
    let text = match read(&input) {
        Ok(text) => text,
        Err(error) => {
            let error = format!("cannot read {}: {error}", input.display());
            return say::fail(error, Some("name a file that this user can read"), json);
        }
    };
    let imported = netscaler(&text);
    if let Err(error) = write(&to, imported.toml.as_bytes(), false) {
        return say::fail(&error, Some(error.remedy()), json);
    }
    if json {
        let files = imported.files.iter().map(|(file, what)| serde_json::json!({ "file": file, "what": what }));
        let files: Vec<_> = files.collect();
        say::print_json(&serde_json::json!({ "written": to.out, "notes": imported.notes, "files": files }), false);
    } else {
        say::print(&told(&imported, &input, &to.out));
    }
    ExitCode::SUCCESS
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other(format!("it has more than {MAX_FILE} bytes")));
    }
    // Comments and names of old configurations are often of another encoding.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn told(imported: &Imported, input: &Path, output: &Path) -> String {
    let mut out = String::new();
    for note in &imported.notes {
        let tone = match note.fate {
            Fate::Repaired => Tone::Plain,
            Fate::Differs => Tone::Warning,
            Fate::LeftOut => Tone::Bad,
        };
        let fate = paint(tone, note.fate.as_str());
        let _ = writeln!(out, "{}:{}: {fate}: {}", input.display(), note.line, note.says);
    }
    let _ = writeln!(out, "written to {}", output.display());
    for (file, what) in &imported.files {
        let _ = writeln!(out, "put beside it: {file}, {what}");
    }
    let _ = writeln!(out, "then: bailey check --config {}", output.display());
    out
}
