//! Child processes: started, streamed, and named in the error when they fail.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The workspace's root directory.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The cargo that runs us, in the workspace's root.
pub(crate) fn cargo<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(args: I) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(args);
    command
}

/// The target directory that we were built in.
pub(crate) fn target() -> Result<PathBuf> {
    let us = std::env::current_exe().context("where is this program?")?;
    Ok(us.parent().and_then(Path::parent).context("this program lies in no target directory")?.to_path_buf())
}

/// A program that was built beside us: `directory` is a profile's, `debug` or `release`. Not by `cargo run`, which would
/// build it, and the kernel half with it, once more for the features of one package alone.
pub(crate) fn built(directory: &str, program: &str) -> Result<Command> {
    let mut command = Command::new(target()?.join(directory).join(program));
    command.current_dir(root());
    Ok(command)
}

/// Run to the end with our own output; an error names the command and `next`, what a person can do then.
pub(crate) fn run(command: &mut Command, next: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`; {next}", line(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status}); {next}", line(command));
    }
    Ok(())
}

/// What a program prints on standard output, when it can be run and ends well.
pub(crate) fn answer<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(program: &str, args: I) -> Option<String> {
    let out = Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Where a program of this name is, looked for on PATH and in the system directories that PATH may leave out.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// The command as a person would type it.
pub(crate) fn line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| quote(&part.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A word as a shell takes it.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_pasted_into_a_shell() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo it's", ""]);
        assert_eq!(line(&command), r"sh -c 'echo it'\''s' ''");
    }

    #[test]
    fn a_failure_names_the_command_and_the_next_step() {
        let error = run(&mut Command::new("false"), "try true").unwrap_err().to_string();
        assert!(error.contains("`false` failed") && error.ends_with("try true"), "{error}");
    }
}
