//! What dpkg is told of the package.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::stage;
use crate::child;

/// Scripts, from `deploy/debian`.
const SCRIPTS: &[&str] = &["postinst", "prerm", "postrm"];
/// Files that are the operator's to change.
const CONFFILES: &str = "/etc/bailey/bailey.toml\n/etc/logrotate.d/bailey\n";

/// Write `DEBIAN` into the staged tree.
pub(super) fn write(stage: &Path, version: &str, architecture: &str) -> Result<()> {
    let directory = stage.join("DEBIAN");
    let libc = ["bailey", "bailey-worker"]
        .iter()
        .map(|program| needed_libc(&stage.join("usr/bin").join(program)))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .max()
        .unwrap_or_default();
    let size = child::answer("du", ["-sk", "--apparent-size", &stage.to_string_lossy()]);
    let size = size.as_deref().and_then(|line| line.split_whitespace().next()).unwrap_or("0").to_owned();
    let control = format!(
        "Package: bailey\nVersion: {version}\nArchitecture: {architecture}\nSection: net\nPriority: optional\n\
         Maintainer: The Bailey authors <bailey@localhost>\nInstalled-Size: {size}\n\
         Pre-Depends: init-system-helpers (>= 1.54)\n\
         Depends: libc6 (>= {}.{}), libgcc-s1, passwd\nRecommends: logrotate\nSuggests: bash-completion, bpftool\n\
         Description: edge load balancer and TLS terminator\n \
         Packets are met by an XDP program, TLS is ended by pinned worker threads that hold\n \
         no privilege, and a command line tells what goes on and changes it while it runs.\n",
        libc.0, libc.1
    );
    stage::write(&directory.join("control"), &control, 0o644)?;
    stage::write(&directory.join("conffiles"), CONFFILES, 0o644)?;
    stage::write(&directory.join("md5sums"), &sums(stage)?, 0o644)?;
    for script in SCRIPTS {
        stage::put(&child::root().join("deploy/debian").join(script), &directory.join(script), 0o755)?;
    }
    Ok(())
}

/// The newest version of the C library that a program names.
fn needed_libc(program: &Path) -> Result<(u32, u32)> {
    let symbols = child::answer("objdump", ["-T", &program.to_string_lossy()])
        .with_context(|| format!("objdump cannot read {}; install binutils (apt install gcc)", program.display()))?;
    newest(&symbols).with_context(|| format!("{} names no version of the C library", program.display()))
}

fn newest(symbols: &str) -> Option<(u32, u32)> {
    let versions = symbols.split("GLIBC_").skip(1).filter_map(|rest| {
        let number = rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
        let mut parts = number.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    });
    versions.max()
}

/// Of every file but the configuration, as `dpkg --verify` reads them.
fn sums(stage: &Path) -> Result<String> {
    let mut find = Command::new("sh");
    find.current_dir(stage).args(["-c", "find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum"]);
    let output = find.output().context("cannot start sh")?;
    anyhow::ensure!(output.status.success(), "md5sum: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).context("a file's name is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn the_newest_library_that_is_named_counts() {
        let symbols =
            "0000 DF *UND* 0000 (GLIBC_2.2.5) read\n0000 DF *UND* 0000 (GLIBC_2.34) x\n(GLIBC_2.17)\n(GCC_3.0)";
        assert_eq!(newest(symbols), Some((2, 34)));
        assert_eq!(newest("(GCC_3.0) (GLIBC_PRIVATE)"), None);
    }
}
