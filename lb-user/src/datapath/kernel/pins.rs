//! The instance's directory in the BPF file system: programs, links and maps are pinned there for tools to see and for the
//! next control plane to go on with, and a lock on it says whether the instance lives.
//!
//! What replaces a pin is pinned beside it first (`new_`), and renamed when it counts. `FORMAT` is a symbolic link whose
//! text says which layout this is; an edge goes on with its own layout alone.

use std::collections::BTreeMap;
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
/// What stands beside the pins that it replaces begins with.
const STAGED: &str = "new_";
/// Says which layout it is.
const FORMAT: &str = "FORMAT";
/// Names and meaning of the pins. What is in the maps has a version of its own ([`abi::ABI_VERSION`]).
const LAYOUT: u32 = 1;
/// How often a directory that vanished while it was being locked is made anew.
const ATTEMPTS: usize = 8;

/// The directory, locked.
#[derive(Debug)]
pub(in crate::datapath) struct Pins {
    path: PathBuf,
    lock: OwnedFd,
    at_end: AtEnd,
}

/// What dropping the directory does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtEnd {
    /// It is removed with all that is in it.
    Removed,
    /// It is another edge's: what was pinned beside its pins is removed.
    Unstaged,
    /// Nothing.
    Left,
}

/// What an instance of this name left, or has still.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What `FORMAT` says; none: an edge from before there was one.
    pub(super) format: Option<String>,
    /// By what is attached (`steer`, or the interface as its pin is named): the program that the link leads to.
    pub(super) links: BTreeMap<String, u32>,
    /// Addresses that it had made local.
    pub(super) addresses: Vec<IpAddr>,
}

impl Found {
    /// The program on an interface.
    pub(super) fn program_on(&self, interface: &str) -> Option<u32> {
        self.links.get(&file_name(interface)).copied()
    }

    /// Every program; without the links that were pinned the kernel detaches them in a moment.
    pub(super) fn programs(&self) -> Vec<u32> {
        self.links.values().copied().collect()
    }
}

/// The layout of this version.
pub(super) fn format() -> String {
    format!("{LAYOUT}.{}", abi::ABI_VERSION)
}

impl Pins {
    /// Take the directory of instance `name`, or say that it lives. `heir`: it lives, and hands over. Gives what is there;
    /// it stays until [`Self::clear`] or [`Self::commit`].
    pub(super) fn claim(name: &str, heir: bool) -> Result<(Self, Found), DatapathError> {
        mount()?;
        claim_in(Path::new(ROOT), name, heir)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.path
    }

    /// Take everything away that is there; what comes is ours.
    pub(super) fn clear(&mut self) -> Result<(), DatapathError> {
        empty(&self.path).map_err(|e| unusable(&self.path, e))?;
        self.at_end = AtEnd::Removed;
        Ok(())
    }

    /// Let go of the lock, and of nothing else. What is another's stays so.
    pub(super) fn leave(mut self) {
        if self.at_end == AtEnd::Removed {
            self.at_end = AtEnd::Left;
        }
    }

    /// Pin the maps of an object that nobody has taken out yet, but those in `kept`, beside what they replace.
    pub(super) fn stage_maps(&self, ebpf: &Ebpf, kept: &[&str]) -> Result<(), DatapathError> {
        // The compiler's own sections begin with a dot, which the BPF file system does not take.
        for (name, map) in ebpf.maps().filter(|(name, _)| !name.starts_with('.') && !kept.contains(name)) {
            map.pin(self.beside(name)).map_err(|e| failed(format!("pin the map {name}"), &e))?;
        }
        Ok(())
    }

    /// Pin the programs of a loaded object beside what they replace.
    pub(super) fn stage_programs(&self, ebpf: &mut Ebpf) -> Result<(), DatapathError> {
        for (name, program) in ebpf.programs_mut() {
            program.pin(self.beside(name)).map_err(|e| failed(format!("pin the program {name}"), &e))?;
        }
        Ok(())
    }

    /// What was staged takes its place; from here on the directory is ours.
    pub(super) fn commit(&mut self) -> Result<(), DatapathError> {
        self.put_in_place().map_err(|e| unusable(&self.path, e))?;
        self.at_end = AtEnd::Removed;
        Ok(())
    }

    fn put_in_place(&self) -> io::Result<()> {
        let format = self.beside(FORMAT);
        std::os::unix::fs::symlink(self::format(), format)?;
        for name in staged(&self.path)? {
            std::fs::rename(self.path.join(&name), self.path.join(&name[STAGED.len()..]))?;
        }
        Ok(())
    }

    /// Pin a link: it stays attached until both the pin and what is returned are gone.
    pub(super) fn pin_link(&self, link: FdLink, what: &str) -> Result<PathBuf, DatapathError> {
        let path = self.link(what);
        link.pin(&path).map_err(|e| failed(format!("pin the link of {what}"), &e))?;
        Ok(path)
    }

    /// Take away what somebody staged and did not put in its place.
    pub(super) fn unstage(&self) -> Result<(), DatapathError> {
        unstage(&self.path).map_err(|e| unusable(&self.path, e))
    }

    /// Where the link of an interface, or `steer`, is pinned.
    pub(super) fn link(&self, what: &str) -> PathBuf {
        self.path.join(format!("{LINK}{}", file_name(what)))
    }

    /// Links of interfaces that are none of `interfaces`.
    pub(super) fn other_links(&self, found: &Found, interfaces: &[&str]) -> Vec<PathBuf> {
        let ours: Vec<String> = interfaces.iter().map(|interface| file_name(interface)).collect();
        let others = found.links.keys().filter(|what| *what != super::load::STEER && !ours.contains(what));
        others.map(|what| self.path.join(format!("{LINK}{what}"))).collect()
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.path.join(format!("{STAGED}{name}"))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let done = match self.at_end {
            AtEnd::Removed => empty(&self.path).and_then(|()| std::fs::remove_dir(&self.path)),
            AtEnd::Unstaged => unstage(&self.path),
            AtEnd::Left => Ok(()),
        };
        if let Err(e) = done {
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

fn claim_in(root: &Path, name: &str, heir: bool) -> Result<(Pins, Found), DatapathError> {
    let path = root.join(format!("bailey-{}", file_name(name)));
    let occupied = |why: &str| DatapathError::Occupied {
        name: name.to_owned(),
        pins: path.display().to_string(),
        why: why.to_owned(),
    };
    for _ in 0..ATTEMPTS {
        match std::fs::create_dir(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(unusable(&path, e)),
            _ => {}
        }
        let lock = match lock(&path, heir) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Err(occupied("a process holds the lock of the directory")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(unusable(&path, e)),
        };
        // Whoever held the lock before may have removed the directory; then the lock is on nothing.
        if !is_at(&lock, &path) {
            continue;
        }
        let found = found(&path);
        let mut pins = Pins { path, lock, at_end: AtEnd::Unstaged };
        unstage(&pins.path).map_err(|e| unusable(&pins.path, e))?;
        if found.links.is_empty() && !heir {
            // Nothing stands.
            pins.clear()?;
        }
        return match share(&pins.lock) {
            true => Ok((pins, found)),
            false => Err(DatapathError::Occupied {
                name: name.to_owned(),
                pins: pins.path.display().to_string(),
                why: "another process claims it at the same time".to_owned(),
            }),
        };
    }
    Err(occupied("the directory is being made and removed by another process"))
}

fn unusable(path: &Path, e: io::Error) -> DatapathError {
    failed(format!("use the pin directory {}", path.display()), &e)
}

/// Whoever comes wants the lock alone; who has it shares it, so that an heir can hold it too before it is left.
fn lock(path: &Path, heir: bool) -> io::Result<Option<OwnedFd>> {
    let directory = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let how = if heir { FlockOperation::NonBlockingLockShared } else { FlockOperation::NonBlockingLockExclusive };
    match rustix::fs::flock(&directory, how) {
        Ok(()) => Ok(Some(directory)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn share(lock: &OwnedFd) -> bool {
    rustix::fs::flock(lock, FlockOperation::NonBlockingLockShared).is_ok()
}

fn is_at(lock: &OwnedFd, path: &Path) -> bool {
    let (Ok(held), Ok(there)) = (rustix::fs::fstat(lock), std::fs::metadata(path)) else { return false };
    held.st_ino == there.ino() && held.st_dev == there.dev()
}

/// What the pins tell. One that cannot be read tells nothing.
fn found(path: &Path) -> Found {
    let mut found = Found { format: read_format(path), ..Found::default() };
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if let Some(what) = name.to_string_lossy().strip_prefix(LINK)
            && let Some(program) = program_of(&entry.path())
        {
            found.links.insert(what.to_owned(), program);
        } else if name == abi::VIPS {
            found.addresses = addresses(&entry.path()).unwrap_or_default();
        }
    }
    found
}

fn read_format(path: &Path) -> Option<String> {
    Some(std::fs::read_link(path.join(FORMAT)).ok()?.to_string_lossy().into_owned())
}

/// The program that a pinned link leads to.
pub(super) fn program_of(link: &Path) -> Option<u32> {
    Some(FdLink::from(PinnedLink::from_pin(link).ok()?).info().ok()?.program_id())
}

fn staged(path: &Path) -> io::Result<Vec<String>> {
    let names = std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: Vec<String> = names.collect::<io::Result<_>>()?;
    Ok(names.into_iter().filter(|name| name.starts_with(STAGED)).collect())
}

fn unstage(path: &Path) -> io::Result<()> {
    staged(path)?.iter().try_for_each(|name| std::fs::remove_file(path.join(name)))
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
        let (pins, _) = claim_in(root.path(), "edge.a", false).unwrap();
        assert!(pins.directory().ends_with("bailey-edge+a"));
        let error = claim_in(root.path(), "edge.a", false).unwrap_err();
        assert!(matches!(error, DatapathError::Occupied { ref name, .. } if name == "edge.a"), "{error}");
        claim_in(root.path(), "edge-a", false).unwrap();
        drop(pins);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
        claim_in(root.path(), "edge.a", false).unwrap();
    }

    #[test]
    fn an_heir_shares_the_lock_and_nobody_slips_in_between() {
        let root = tempfile::tempdir().unwrap();
        let (mut old, _) = claim_in(root.path(), "edge", false).unwrap();
        std::fs::write(old.beside("edge"), b"a pin").unwrap();
        old.commit().unwrap();
        let (mut heir, found) = claim_in(root.path(), "edge", true).unwrap();
        assert_eq!(found.format, Some(format()));
        std::fs::write(heir.beside("edge"), b"another").unwrap();
        heir.commit().unwrap();
        old.leave();
        claim_in(root.path(), "edge", false).unwrap_err();
        assert_eq!(std::fs::read(heir.directory().join("edge")).unwrap(), b"another");
        heir.leave();
        assert!(root.path().join("bailey-edge/edge").exists());
    }

    #[test]
    fn an_heir_that_fails_takes_away_what_is_its_own() {
        let root = tempfile::tempdir().unwrap();
        let (mut old, _) = claim_in(root.path(), "edge", false).unwrap();
        std::fs::write(old.beside("edge"), b"a pin").unwrap();
        old.commit().unwrap();
        let (heir, _) = claim_in(root.path(), "edge", true).unwrap();
        std::fs::write(heir.beside("edge"), b"another").unwrap();
        drop(heir);
        let mut left = std::fs::read_dir(old.directory()).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
        left.sort();
        assert_eq!(left, ["FORMAT", "edge"]);
        assert_eq!(std::fs::read(old.directory().join("edge")).unwrap(), b"a pin");
    }

    #[test]
    fn what_stands_for_nothing_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("bailey-edge");
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("VIPS"), b"not a pin").unwrap();
        std::fs::write(directory.join("new_VIPS"), b"half made").unwrap();
        let (pins, found) = claim_in(root.path(), "edge", false).unwrap();
        assert!(found.addresses.is_empty() && found.links.is_empty());
        assert_eq!(std::fs::read_dir(pins.directory()).unwrap().count(), 0);
    }
}
