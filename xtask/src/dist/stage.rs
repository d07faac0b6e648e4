//! The files of the package, where they will lie.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::child;

/// From the workspace's root, to where.
const FILES: &[(&str, &str)] = &[
    ("deploy/bailey.service", "usr/lib/systemd/system/bailey.service"),
    ("deploy/bailey.sysusers", "usr/lib/sysusers.d/bailey.conf"),
    ("deploy/bailey.tmpfiles", "usr/lib/tmpfiles.d/bailey.conf"),
    ("deploy/debian/bailey.toml", "etc/bailey/bailey.toml"),
    ("deploy/debian/bailey.logrotate", "etc/logrotate.d/bailey"),
    ("deploy/bailey.toml", "usr/share/doc/bailey/examples/bailey.toml"),
    ("deploy/bailey-l4.toml", "usr/share/doc/bailey/examples/bailey-l4.toml"),
    ("docs/operating.md", "usr/share/doc/bailey/operating.md"),
    ("docs/config.md", "usr/share/doc/bailey/config.md"),
    ("docs/metrics.md", "usr/share/doc/bailey/metrics.md"),
    ("docs/variables.md", "usr/share/doc/bailey/variables.md"),
    ("CHANGELOG.md", "usr/share/doc/bailey/changelog"),
    ("deploy/debian/copyright", "usr/share/doc/bailey/copyright"),
    ("grafana/bailey.json", "usr/share/bailey/grafana/bailey.json"),
    ("grafana/alerts.yml", "usr/share/bailey/grafana/alerts.yml"),
];

/// By shell: where its completions lie.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/bailey"),
    ("zsh", "usr/share/zsh/vendor-completions/_bailey"),
    ("fish", "usr/share/fish/vendor_completions.d/bailey.fish"),
];

/// Programs, and what belongs to them.
pub(super) fn fill(stage: &Path, binaries: &Path) -> Result<()> {
    for program in ["bailey", "bailey-worker"] {
        let to = stage.join("usr/bin").join(program);
        put(&binaries.join(program), &to, 0o755)?;
        // What a backtrace needs stays in the build's own directory.
        let mut strip = Command::new("strip");
        child::run(strip.args(["--strip-debug", "--strip-unneeded"]).arg(&to), "install binutils (apt install gcc)")?;
    }
    for (from, to) in FILES {
        put(&child::root().join(from), &stage.join(to), 0o644)?;
    }
    let bailey = stage.join("usr/bin/bailey");
    for (shell, to) in COMPLETIONS {
        let text = child::answer(&bailey.to_string_lossy(), ["completions", shell])
            .with_context(|| format!("`bailey completions {shell}` failed"))?;
        write(&stage.join(to), &text, 0o644)?;
    }
    let pages = stage.join("usr/share/man/man1");
    let mut man = Command::new(&bailey);
    child::run(man.arg("man").arg(&pages).stdout(Stdio::null()), "see what `bailey man` says above")?;
    compress(&pages)?;
    let changelog = stage.join("usr/share/doc/bailey/changelog");
    child::run(gzip().arg(&changelog), "install gzip")
}

/// Every page of the manual.
fn compress(pages: &Path) -> Result<()> {
    let mut gzip = gzip();
    let mut any = false;
    for page in std::fs::read_dir(pages).with_context(|| format!("read {}", pages.display()))? {
        let page = page?.path();
        std::fs::set_permissions(&page, Permissions::from_mode(0o644))?;
        gzip.arg(page);
        any = true;
    }
    if !any {
        bail!("`bailey man` wrote no page to {}", pages.display());
    }
    child::run(&mut gzip, "install gzip")
}

fn gzip() -> Command {
    let mut gzip = Command::new("gzip");
    gzip.args(["-9", "-n"]);
    gzip
}

/// A copy.
pub(super) fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    parent(to)?;
    std::fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(std::fs::set_permissions(to, Permissions::from_mode(mode))?)
}

/// A text.
pub(super) fn write(to: &Path, text: &str, mode: u32) -> Result<()> {
    parent(to)?;
    std::fs::write(to, text).with_context(|| format!("write {}", to.display()))?;
    Ok(std::fs::set_permissions(to, Permissions::from_mode(mode))?)
}

/// Directories of the package are as the system's are, whatever umask this runs with.
fn parent(file: &Path) -> Result<()> {
    let Some(directory) = file.parent() else { return Ok(()) };
    if !directory.is_dir() {
        parent(directory)?;
        std::fs::create_dir(directory).with_context(|| format!("make {}", directory.display()))?;
        std::fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    }
    Ok(())
}
