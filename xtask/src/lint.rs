//! `cargo xtask lint`: format, clippy, and what dependencies may be.

use anyhow::Result;

use crate::child;

/// All of it; the first failure ends it.
pub(crate) fn run() -> Result<()> {
    format()?;
    clippy()?;
    if child::find("cargo-deny").is_none() {
        println!(
            "lint: cargo-deny is missing, licences are not checked; `cargo install cargo-deny --locked` brings it"
        );
        return Ok(());
    }
    child::run(
        &mut child::cargo(["deny", "--all-features", "check", "licenses", "bans", "sources"]),
        "deny.toml says what may be depended on",
    )
}

/// Is everything formatted?
pub(crate) fn format() -> Result<()> {
    child::run(&mut child::cargo(["fmt", "--all", "--check"]), "run `cargo fmt`")
}

/// No warning. The kernel half is read too: for the host it compiles to an empty program.
pub(crate) fn clippy() -> Result<()> {
    let mut command = child::cargo(["clippy", "--workspace", "--all-targets"]);
    child::run(command.args(["--", "-D", "warnings"]), "mend what it warns of")
}
