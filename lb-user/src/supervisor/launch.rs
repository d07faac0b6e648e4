//! Which program the worker is, and as whom it runs.

use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// File name of the worker.
const PROGRAM: &str = "bailey-worker";
/// Users of the worker process, when none is configured: the first that exists.
const USERS: [&str; 2] = ["bailey", "nobody"];

/// Why the worker cannot be launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No such file, or none that can be run.
    #[error(
        "cannot run the worker {path}: {source}; install bailey-worker beside bailey, or set worker_binary under [edge]"
    )]
    Binary {
        /// Where it was looked for.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// No user to run it as.
    #[error("this host has no user {0}; create it (useradd --system bailey), or set user under [edge]")]
    NoUser(String),
}

/// Makes the command of one worker process. A seam: a test launches something else.
pub type Launch = Box<dyn Fn() -> Command + Send + Sync>;

/// The worker's program as it is now: a restart runs the same one, also when the file was replaced meanwhile. It is
/// executed through its descriptor, so that the worker's user needs no access to the directories above it.
pub fn launch(binary: Option<&Path>, user: Option<&str>) -> Result<Launch, LaunchError> {
    let path = match binary {
        Some(path) => path.to_owned(),
        None => std::env::current_exe().unwrap_or_default().with_file_name(PROGRAM),
    };
    let file = open(&path).map_err(|source| LaunchError::Binary { path, source })?;
    let ids = if rustix::process::geteuid().is_root() { Some(user_ids(user)?) } else { None };
    Ok(Box::new(move || {
        let mut command = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
        command.arg0(PROGRAM).env_clear().current_dir("/");
        for key in ["RUST_BACKTRACE", "NO_COLOR"] {
            if let Some(value) = std::env::var_os(key) {
                command.env(key, value);
            }
        }
        if let Some((uid, gid)) = ids {
            // std clears the supplementary groups when it changes the user as root.
            command.uid(uid).gid(gid);
        }
        command
    }))
}

fn open(path: &Path) -> std::io::Result<OwnedFd> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
    if !regular || stat.st_mode & 0o111 == 0 {
        return Err(std::io::Error::other("not an executable file"));
    }
    Ok(file)
}

fn user_ids(user: Option<&str>) -> Result<(u32, u32), LaunchError> {
    let names: &[&str] = match &user {
        Some(name) => &[name],
        None => &USERS,
    };
    names
        .iter()
        .find_map(|name| nix::unistd::User::from_name(name).ok().flatten())
        .map(|user| (user.uid.as_raw(), user.gid.as_raw()))
        .ok_or_else(|| LaunchError::NoUser(names.join(" or ")))
}
