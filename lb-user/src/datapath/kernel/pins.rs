//! The instance's directory in the BPF file system: programs, links and maps are pinned there for tools to see, and a
//! lock on it says whether the instance lives.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData};
use aya::programs::links::{FdLink, PinnedLink};
use lb_common::abi;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::mount::MountFlags;

use super::error::failed;
use crate::datapath::DatapathError;

/// Where the BPF file system belongs.
const ROOT: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` (linux/magic.h).
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
/// What pinned links begin with.
const LINK: &str = "link_";
/// How often a directory that vanished while it was being locked is made anew.
const ATTEMPTS: usize = 8;

/// The directory, locked. Dropping it removes it with all that is in it, unless it is left.
#[derive(Debug)]
pub(super) struct Pins {
    path: PathBuf,
    left: bool,
    _lock: OwnedFd,
}

/// What an instance of this name that was killed left behind.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// Programs that were attached by links which were pinned; the kernel detaches them in a moment.
    pub(super) programs: Vec<u32>,
    /// Addresses that it had made local.
    pub(super) addresses: Vec<IpAddr>,
}

impl Pins {
    /// Take the directory of instance `name`, or say that it lives.
    pub(super) fn claim(name: &str) -> Result<(Self, Leftovers), DatapathError> {
        mount()?;
        claim_in(Path::new(ROOT), name)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.path
    }

    /// Let go of the lock, and of nothing else.
    pub(super) fn leave(mut self) {
        self.left = true;
    }

    /// Pin the maps and programs of a loaded object.
    pub(super) fn pin_object(&self, ebpf: &mut Ebpf) -> Result<(), DatapathError> {
        // The compiler's own sections begin with a dot, which the BPF file system does not take.
        for (name, map) in ebpf.maps().filter(|(name, _)| !name.starts_with('.')) {
            map.pin(self.path.join(name)).map_err(|e| failed(format!("pin the map {name}"), &e))?;
        }
        for (name, program) in ebpf.programs_mut() {
            program.pin(self.path.join(name)).map_err(|e| failed(format!("pin the program {name}"), &e))?;
        }
        Ok(())
    }

    /// Pin a link: it stays attached until both the pin and what is returned are gone.
    pub(super) fn pin_link(&self, link: FdLink, what: &str) -> Result<PinnedLink, DatapathError> {
        let path = self.path.join(format!("{LINK}{}", file_name(what)));
        link.pin(path).map_err(|e| failed(format!("pin the link of {what}"), &e))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        if let Err(e) = empty(&self.path).and_then(|()| std::fs::remove_dir(&self.path)) {
            tracing::warn!(pins = %self.path.display(), error = %e, "pins could not be removed");
        }
    }
}

/// The BPF file system takes no dot in a name; a plus sign is in no name of an instance.
fn file_name(name: &str) -> String {
    name.replace('.', "+")
}

/// Have the BPF file system where it belongs.
pub(super) fn mount() -> Result<(), DatapathError> {
    let mounted = rustix::fs::statfs(ROOT).map_err(|e| failed(format!("look at {ROOT}"), &io::Error::from(e)))?;
    if mounted.f_type as i64 == BPF_FS_MAGIC {
        return Ok(());
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(c"bpf", ROOT, c"bpf", flags, c"mode=0700")
        .map_err(|e| failed(format!("mount the BPF file system at {ROOT}"), &io::Error::from(e)))
}

fn claim_in(root: &Path, name: &str) -> Result<(Pins, Leftovers), DatapathError> {
    let path = root.join(format!("bailey-{}", file_name(name)));
    let occupied = |why: &str| DatapathError::Occupied {
        name: name.to_owned(),
        pins: path.display().to_string(),
        why: why.to_owned(),
    };
    let unusable = |e: io::Error| failed(format!("use the pin directory {}", path.display()), &e);
    for _ in 0..ATTEMPTS {
        match std::fs::create_dir(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(unusable(e)),
            _ => {}
        }
        let lock = match lock(&path) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Err(occupied("a process holds the lock of the directory")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(unusable(e)),
        };
        // Whoever held the lock before may have removed the directory; then the lock is on nothing.
        if !is_at(&lock, &path) {
            continue;
        }
        let leftovers = leftovers(&path);
        empty(&path).map_err(unusable)?;
        return Ok((Pins { path, left: false, _lock: lock }, leftovers));
    }
    Err(occupied("the directory is being made and removed by another process"))
}

fn lock(path: &Path) -> io::Result<Option<OwnedFd>> {
    let directory = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(directory)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn is_at(lock: &OwnedFd, path: &Path) -> bool {
    let (Ok(held), Ok(there)) = (rustix::fs::fstat(lock), std::fs::metadata(path)) else { return false };
    held.st_ino == there.ino() && held.st_dev == there.dev()
}

/// What the pins of a dead instance tell. One that cannot be read tells nothing and is removed all the same.
fn leftovers(path: &Path) -> Leftovers {
    let mut leftovers = Leftovers::default();
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(LINK)
            && let Ok(link) = PinnedLink::from_pin(entry.path())
            && let Ok(info) = FdLink::from(link).info()
        {
            leftovers.programs.push(info.program_id());
        } else if name == abi::VIPS {
            leftovers.addresses = addresses(&entry.path()).unwrap_or_default();
        }
    }
    leftovers
}

fn addresses(pin: &Path) -> Result<Vec<IpAddr>, aya::maps::MapError> {
    let map = Map::from_map_data(MapData::from_pin(pin)?)?;
    let vips: HashMap<MapData, [u8; 16], [u8; 4]> = map.try_into()?;
    vips.keys().map(|address| address.map(|octets| IpAddr::from(octets).to_canonical())).collect()
}

fn empty(path: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        std::fs::remove_file(entry?.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_lives_is_not_claimed_twice() {
        let root = tempfile::tempdir().unwrap();
        let (pins, _) = claim_in(root.path(), "edge.a").unwrap();
        assert!(pins.directory().ends_with("bailey-edge+a"));
        let error = claim_in(root.path(), "edge.a").unwrap_err();
        assert!(matches!(error, DatapathError::Occupied { ref name, .. } if name == "edge.a"), "{error}");
        claim_in(root.path(), "edge-a").unwrap();
        drop(pins);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
        claim_in(root.path(), "edge.a").unwrap();
    }

    #[test]
    fn what_a_dead_instance_left_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("bailey-edge");
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("VIPS"), b"not a pin").unwrap();
        let (pins, leftovers) = claim_in(root.path(), "edge").unwrap();
        assert!(leftovers.addresses.is_empty());
        assert_eq!(std::fs::read_dir(pins.directory()).unwrap().count(), 0);
    }
}
