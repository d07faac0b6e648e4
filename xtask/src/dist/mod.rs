//! `cargo xtask dist`: a Debian package of the two programs, and of what an operator takes along.

mod control;
mod stage;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::child;

/// Release, as in the workspace's manifest.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where `bailey` and `bailey-worker` are; built when left out
    #[arg(long, value_name = "DIRECTORY")]
    binaries: Option<PathBuf>,
    /// Profile to build
    #[arg(long, value_enum, default_value = "release", conflicts_with = "binaries")]
    profile: Profile,
    /// Revision of the package: a higher one upgrades a lower one of the same release
    #[arg(long, default_value_t = 1)]
    revision: u32,
    /// Where the package goes [default: dist in the target directory]
    #[arg(long, value_name = "DIRECTORY")]
    output: Option<PathBuf>,
    /// Compress little: for a package that is only tried
    #[arg(long)]
    fast: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
enum Profile {
    Release,
    Dev,
}

/// Make the package, and print where it is.
pub(crate) fn run(args: &Args) -> Result<()> {
    let binaries = match &args.binaries {
        Some(directory) => std::path::absolute(directory)?,
        None => build(args.profile)?,
    };
    let output = match &args.output {
        Some(directory) => std::path::absolute(directory)?,
        None => child::target()?.join("dist"),
    };
    let architecture = child::answer("dpkg", ["--print-architecture"])
        .context("dpkg cannot be asked for its architecture; packages are built on Debian or Ubuntu")?;
    let version = format!("{VERSION}-{}", args.revision);
    let name = format!("bailey_{version}_{}", architecture.trim());
    let stage = output.join(&name);
    remove(&stage)?;
    std::fs::create_dir_all(&stage).with_context(|| format!("make {}", stage.display()))?;
    stage::fill(&stage, &binaries)?;
    control::write(&stage, &version, architecture.trim())?;
    let package = output.join(format!("{name}.deb"));
    let compression: &[&str] = if args.fast { &["-Zgzip", "-z1"] } else { &["-Zxz"] };
    let mut build = std::process::Command::new("dpkg-deb");
    build.arg("--root-owner-group").args(compression).arg("--build").arg(&stage).arg(&package);
    if std::env::var_os("SOURCE_DATE_EPOCH").is_none()
        && let Some(time) = child::answer("git", ["log", "-1", "--format=%ct"])
    {
        // The same sources make the same package.
        build.env("SOURCE_DATE_EPOCH", time.trim());
    }
    build.stdout(std::process::Stdio::null());
    child::run(&mut build, "see what dpkg-deb says above")?;
    remove(&stage)?;
    println!("{}", package.display());
    Ok(())
}

fn build(profile: Profile) -> Result<PathBuf> {
    let (flags, directory): (&[&str], _) = match profile {
        Profile::Release => (&["--release"], "release"),
        Profile::Dev => (&[], "debug"),
    };
    let mut cargo = child::cargo(["build", "-p", "lb-user", "-p", "tls-worker", "--bins"]);
    child::run(cargo.args(flags), "mend what the compiler says")?;
    Ok(child::target()?.join(directory))
}

fn remove(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
