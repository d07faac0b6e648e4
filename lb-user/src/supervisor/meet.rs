//! Where workers and the next control plane meet: a Unix socket for each worker beside the admin socket, that the worker
//! listens on and that only this user may connect to.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Longest path of a Unix socket, bytes (unix(7)): the draft's is shorter than the last one.
const MAX_PATH: usize = 107;
/// The user alone.
const MODE: u32 = 0o600;

/// The folder, and whose workers.
#[derive(Debug, Clone)]
pub struct Places {
    folder: PathBuf,
    edge: String,
}

impl Places {
    /// Beside the admin socket of the edge of this name.
    pub fn beside(socket: &Path, edge: &str) -> Self {
        Self { folder: socket.parent().unwrap_or(Path::new("/")).to_owned(), edge: edge.to_owned() }
    }

    fn path(&self, pid: u32) -> PathBuf {
        self.folder.join(format!("worker-{}-{pid}.sock", self.edge))
    }

    /// A socket for the worker of this process id.
    pub(super) fn bind(&self, pid: u32) -> io::Result<OwnedFd> {
        let (path, draft) = (self.path(pid), self.folder.join(format!(".worker-{}-{pid}", self.edge)));
        if path.as_os_str().len() > MAX_PATH {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "its path is too long for a socket"));
        }
        let _ = std::fs::remove_file(&draft);
        let listener = std::os::unix::net::UnixListener::bind(&draft)?;
        // Nobody connects by its last name before the mode is set.
        let settled = std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(MODE))
            .and_then(|()| std::fs::rename(&draft, &path));
        if let Err(error) = settled {
            let _ = std::fs::remove_file(&draft);
            return Err(error);
        }
        Ok(listener.into())
    }

    /// The worker is gone.
    pub(super) fn remove(&self, pid: u32) {
        let _ = std::fs::remove_file(self.path(pid));
    }

    /// Sockets of this edge's workers, living or dead, with the process ids in their names.
    pub(super) fn list(&self) -> Vec<(PathBuf, u32)> {
        let us = rustix::process::geteuid().as_raw();
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let found = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let pid = name.strip_prefix("worker-")?.strip_suffix(".sock")?;
            let pid = pid.strip_prefix(&*self.edge)?.strip_prefix('-')?.parse().ok()?;
            let meta = std::fs::symlink_metadata(entry.path()).ok()?;
            let ours = meta.file_type().is_socket() && meta.uid() == us;
            // Whoever else may write here could have us talk to a process of theirs.
            ours.then(|| (entry.path(), pid))
        });
        found.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_finds_its_own_workers_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let at = |edge| Places::beside(&dir.path().join("admin.sock"), edge);
        let (one, other) = (at("one"), at("one-1"));
        let listener = one.bind(7).unwrap();
        let again = one.bind(7).unwrap();
        other.bind(8).unwrap();
        std::fs::write(dir.path().join("worker-one-9.sock"), "no socket").unwrap();
        assert_eq!(one.list(), [(dir.path().join("worker-one-7.sock"), 7)]);
        assert_eq!(other.list().len(), 1);
        let mode = std::fs::metadata(dir.path().join("worker-one-7.sock")).unwrap().mode();
        assert_eq!(mode & 0o777, MODE);
        drop((listener, again));
        one.remove(7);
        assert!(one.list().is_empty());
    }
}
