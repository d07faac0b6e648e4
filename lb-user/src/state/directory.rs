//! The state directory: one edge's at a time, files that only it may read.

use super::medium::Medium;
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A journal is at most so long, bytes: many times what is written into one.
const MAX_JOURNAL: u64 = 1 << 30;

/// The directory, and the journal in it as a [`Medium`].
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Held for as long as this lives.
    lock: Option<File>,
    journal: Option<File>,
}

impl Directory {
    /// Take it. One that cannot be locked because nothing can be written there is taken all the same, to be read.
    /// The other's process id, where another edge has it.
    pub fn take(path: &Path) -> Result<Self, String> {
        let mut directory = Self { path: path.to_owned(), lock: None, journal: None };
        match directory.hold() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(std::fs::read_to_string(directory.file("lock")).unwrap_or_default().trim().to_owned())
            }
            Ok(()) | Err(_) => Ok(directory),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Make the directory where there is none, and lock it.
    fn hold(&mut self) -> io::Result<()> {
        match &self.lock {
            Some(lock) if lock.metadata()?.nlink() > 0 => return Ok(()),
            // Somebody removed the directory under us: it is made anew.
            _ => self.lock = None,
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let path = self.file("lock");
        let mut lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        lock.set_len(0)?;
        // For whoever finds it locked; the lock holds without.
        let _ = write!(lock, "{}", std::process::id());
        self.lock = Some(lock);
        Ok(())
    }

    fn journal(&mut self) -> io::Result<&mut File> {
        self.hold()?;
        let file = match self.journal.take() {
            Some(file) => file,
            None => OpenOptions::new().append(true).create(true).mode(0o600).open(self.file("journal"))?,
        };
        Ok(self.journal.insert(file))
    }

    /// A whole file under a name, old or new after a crash.
    fn put(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.hold()?;
        let draft = self.file(&format!("{name}.draft"));
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // Its space may be what others wait for.
            let _ = std::fs::remove_file(&draft);
            return Err(error);
        }
        std::fs::rename(&draft, self.file(name))?;
        File::open(&self.path)?.sync_all()
    }
}

impl Medium for Directory {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let file = match File::open(self.file("journal")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        if file.take(MAX_JOURNAL + 1).read_to_end(&mut bytes)? as u64 > MAX_JOURNAL {
            return Err(io::Error::other(format!("the journal is longer than {MAX_JOURNAL} bytes")));
        }
        Ok(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = self.journal()?;
        file.write_all(bytes)?;
        file.sync_data()?;
        // What is written into a file that was removed is kept nowhere.
        if file.metadata()?.nlink() == 0 {
            self.journal = None;
            return Err(io::Error::other("the journal was removed"));
        }
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let file = self.journal()?;
        if file.metadata()?.len() < length {
            return Err(io::Error::other("the journal is shorter than it was"));
        }
        file.set_len(length)?;
        file.sync_data()
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.journal = None;
        self.put("journal", bytes)
    }

    fn set_aside(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.put("journal.damaged", bytes)
    }
}
