//! The tries of prefixes in the kernel. A million come and go in chunks.

use std::os::fd::{AsFd as _, OwnedFd};

use aya::Ebpf;
use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, Map, MapData, MapError};
use lb_common::abi;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::rules::{Change, KeyV4, KeyV6, Now, Value, Writes, rule_v4, rule_v6};
use crate::datapath::kernel::bpf;
use crate::datapath::kernel::error::failed;
use crate::datapath::kernel::load::absent;
use crate::datapath::{DatapathError, PrefixRule};

/// Prefixes written by one call.
const CHUNK: usize = 16_384;

/// Both families.
pub(super) struct Tries {
    v4: Trie<8>,
    v6: Trie<24>,
}

/// One family; `N` bytes of a key behind its length.
struct Trie<const N: usize> {
    map: LpmTrie<MapData, [u8; N], Value>,
    fd: OwnedFd,
    what: &'static str,
    bound: usize,
    held: usize,
}

impl Tries {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        Ok(Self {
            v4: Trie::take(ebpf, abi::PREFIXES_V4, "IPv4 prefixes")?,
            v6: Trie::take(ebpf, abi::PREFIXES_V6, "IPv6 prefixes")?,
        })
    }

    /// Refuses what does not fit before anything is written. After another error some has been written.
    pub(super) fn write(&mut self, change: &Change) -> Result<(), DatapathError> {
        self.v4.check(&change.v4)?;
        self.v6.check(&change.v6)?;
        self.v4.write(&change.v4)?;
        self.v6.write(&change.v6)
    }

    /// What an edge has written, as a list.
    pub(super) fn read(&mut self, now: Now) -> Result<Vec<PrefixRule>, DatapathError> {
        let v4 = self.v4.read::<KeyV4>()?.into_iter().filter_map(|(key, value)| rule_v4(key, value, now));
        let v6 = self.v6.read::<KeyV6>()?.into_iter().filter_map(|(key, value)| rule_v6(key, value, now));
        let mut rules: Vec<PrefixRule> = v4.chain(v6).collect();
        rules.sort_by_key(|rule| (rule.service, rule.network));
        Ok(rules)
    }

    pub(super) fn held(&self) -> usize {
        self.v4.held + self.v6.held
    }
}

impl<const N: usize> Trie<N> {
    fn take(ebpf: &mut Ebpf, name: &str, what: &'static str) -> Result<Self, DatapathError> {
        let unusable = |e: &(dyn std::error::Error + 'static)| failed(format!("use the map {name}"), e);
        let map = ebpf.take_map(name).ok_or_else(|| absent("map", name))?;
        let Map::LpmTrie(data) = map else { return Err(absent("trie", name)) };
        let bound = data.info().map_err(|e| unusable(&e))?.max_entries() as usize;
        let fd = data.fd().as_fd().try_clone_to_owned().map_err(|e| unusable(&e))?;
        let map = LpmTrie::try_from(Map::LpmTrie(data)).map_err(|e| unusable(&e))?;
        Ok(Self { map, fd, what, bound, held: 0 })
    }

    fn read<K: FromBytes + IntoBytes + Copy>(&mut self) -> Result<Vec<(K, Value)>, DatapathError> {
        let elements = bpf::all_of_trie(self.fd.as_fd());
        let elements = elements.map_err(|e| failed(format!("read {} from the kernel's table", self.what), &e))?;
        self.held = elements.len();
        Ok(elements)
    }

    fn after<K>(&self, writes: &Writes<K>) -> usize {
        (self.held + writes.keys.len() - writes.replaced).saturating_sub(writes.gone.len())
    }

    fn check<K>(&self, writes: &Writes<K>) -> Result<(), DatapathError> {
        let count = self.after(writes);
        if count > self.bound {
            return Err(DatapathError::Full { what: self.what, count, bound: self.bound, key: "max_prefixes" });
        }
        Ok(())
    }

    /// What comes before what goes, where there is room for both.
    fn write<K: IntoBytes + Immutable + AsRef<[u8]>>(&mut self, writes: &Writes<K>) -> Result<(), DatapathError> {
        let both_fit = self.held + writes.keys.len() - writes.replaced <= self.bound;
        let after = self.after(writes);
        let result = if both_fit {
            self.add(writes).and_then(|()| self.remove(writes))
        } else {
            self.remove(writes).and_then(|()| self.add(writes))
        };
        self.held = after;
        result.map_err(|e| failed(format!("write {} into the kernel's table", self.what), &e))
    }

    fn add<K: IntoBytes + Immutable + AsRef<[u8]>>(&mut self, writes: &Writes<K>) -> Result<(), MapError> {
        for (keys, values) in writes.keys.chunks(CHUNK).zip(writes.values.chunks(CHUNK)) {
            // A kernel that does not write many into a trie writes one.
            if bpf::update_many(self.fd.as_fd(), keys, values).is_err() {
                for (key, value) in keys.iter().zip(values) {
                    self.map.insert(&Self::key(key.as_ref()), value, 0)?;
                }
            }
        }
        Ok(())
    }

    fn remove<K: IntoBytes + Immutable + AsRef<[u8]>>(&mut self, writes: &Writes<K>) -> Result<(), MapError> {
        for keys in writes.gone.chunks(CHUNK) {
            if bpf::delete_many(self.fd.as_fd(), keys).is_err() {
                for key in keys {
                    match self.map.remove(&Self::key(key.as_ref())) {
                        Ok(()) => {}
                        Err(e) if is_absent(&e) => {}
                        Err(e) => return Err(e),
                    }
                }
            }
        }
        Ok(())
    }

    fn key(bytes: &[u8]) -> Key<[u8; N]> {
        let (length, data) = bytes.split_at(4);
        let mut octets = [0; N];
        octets.copy_from_slice(data);
        let length = length.try_into().map_or(0, u32::from_ne_bytes);
        Key::new(length, octets)
    }
}

fn is_absent(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound | MapError::ElementNotFound => true,
        MapError::SyscallError(e) => e.io_error.raw_os_error() == Some(libc::ENOENT),
        _ => false,
    }
}
