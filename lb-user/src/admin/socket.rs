//! The Unix socket: taken over from a dead daemon, never from a live one, and removed at the end.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::UnixListener;

/// Group that may use the socket where none is named, if it exists.
pub(crate) const GROUP: &str = "bailey";

/// Who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketAccess {
    /// Group; none: `bailey`, where that exists.
    pub group: Option<String>,
    /// Bits of owner, group and others.
    pub mode: u32,
}

impl Default for SocketAccess {
    fn default() -> Self {
        Self { group: None, mode: 0o660 }
    }
}

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A daemon answers there.
    #[error("another bailey answers on {0}; stop it, or set another `socket` under [admin]")]
    Live(PathBuf),
    /// Something else lies there.
    #[error("{0} exists and is no socket; remove it, or set another `socket` under [admin]")]
    NoSocket(PathBuf),
    /// The system refuses.
    #[error("cannot listen on {path}: {source}; let this user write there, or set another `socket` under [admin]")]
    Io {
        /// Socket.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// A listening socket; removed when dropped.
#[derive(Debug)]
pub struct AdminSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    access: SocketAccess,
    /// Device and inode: another daemon's socket at the same path is not ours to remove.
    inode: (u64, u64),
    handed: Arc<AtomicBool>,
}

/// Says that a socket is another process's from now on, and stays where it is.
#[derive(Debug, Clone)]
pub(crate) struct HandOn(Arc<AtomicBool>);

impl HandOn {
    /// Another process has it.
    pub(crate) fn done(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl AdminSocket {
    /// Listen.
    pub fn bind(path: &Path, access: &SocketAccess) -> Result<Self, SocketError> {
        let io = |source| SocketError::Io { path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(io)?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(meta) if !meta.file_type().is_socket() => return Err(SocketError::NoSocket(path.to_owned())),
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(SocketError::Live(path.to_owned()));
            }
            _ => {}
        }
        // Made under another name, so that nobody connects before the mode is set; the rename takes a dead one's place.
        let draft = path.with_file_name(format!(".{}", std::process::id()));
        let _ = std::fs::remove_file(&draft);
        let listener = UnixListener::bind(&draft).map_err(io)?;
        let settled = settle(&draft, path, access);
        if settled.is_err() {
            let _ = std::fs::remove_file(&draft);
        }
        let (path, access) = (path.to_owned(), access.clone());
        Ok(Self { listener, path, access, inode: settled.map_err(io)?, handed: Arc::default() })
    }

    /// Go on with the socket of another process, which is that one's until [`Self::ours`].
    pub(crate) fn inherit(socket: OwnedFd, path: &Path, access: &SocketAccess) -> Result<Self, SocketError> {
        let io = |source| SocketError::Io { path: path.to_owned(), source };
        let listener = std::os::unix::net::UnixListener::from(socket);
        listener.set_nonblocking(true).map_err(io)?;
        let meta = std::fs::symlink_metadata(path).map_err(io)?;
        let inode = (meta.dev(), meta.ino());
        Ok(Self {
            listener: UnixListener::from_std(listener).map_err(io)?,
            path: path.to_owned(),
            inode,
            access: access.clone(),
            // A start that fails leaves it.
            handed: Arc::new(AtomicBool::new(true)),
        })
    }

    /// It is this process's from now on: it is for whom our config says, and goes with us.
    pub(crate) fn ours(&self) {
        if let Err(error) = allow(&self.path, &self.access) {
            tracing::warn!(path = %self.path.display(), %error, "the socket stays with the group and mode that it had");
        }
        self.handed.store(false, Ordering::Relaxed);
    }

    /// For another process: the socket once more, and the word that it has it.
    pub(crate) fn hand_on(&self) -> Result<(OwnedFd, HandOn), SocketError> {
        let socket = self.listener.as_fd().try_clone_to_owned();
        let socket = socket.map_err(|source| SocketError::Io { path: self.path.clone(), source })?;
        Ok((socket, HandOn(Arc::clone(&self.handed))))
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if self.handed.load(Ordering::Relaxed) {
            return;
        }
        if std::fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn settle(draft: &Path, path: &Path, access: &SocketAccess) -> std::io::Result<(u64, u64)> {
    allow(draft, access)?;
    let meta = std::fs::symlink_metadata(draft)?;
    std::fs::rename(draft, path)?;
    Ok((meta.dev(), meta.ino()))
}

fn allow(socket: &Path, access: &SocketAccess) -> std::io::Result<()> {
    if let Ok(Some(group)) = nix::unistd::Group::from_name(access.group.as_deref().unwrap_or(GROUP)) {
        // An ordinary user may not give files away; then the socket is the user's own.
        let given = std::os::unix::fs::chown(socket, None, Some(group.gid.as_raw()));
        // One that was asked for is meant.
        if access.group.is_some() {
            given?;
        }
    }
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(access.mode))
}
