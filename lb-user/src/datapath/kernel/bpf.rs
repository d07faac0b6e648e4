//! The kinds of bpf(2) call that aya 0.14 has not: making a map that no object names, reading or writing many elements at
//! once, which inner map stands where, and leading any link to another program (linux/bpf.h). And waiting for a ring
//! buffer, whose descriptor tokio asks to be vouched for.
#![allow(unsafe_code, reason = "the system call takes addresses")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_MAP_DELETE_BATCH: libc::c_long = 27;
const BPF_LINK_UPDATE: libc::c_long = 29;
/// `BPF_F_REPLACE`: only if the link leads to the old program.
const BPF_F_REPLACE: u32 = 1 << 2;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
/// `BPF_F_INNER_MAP`: the array may stand for one of another length.
const BPF_F_INNER_MAP: u32 = 1 << 12;

/// `union bpf_attr` of `BPF_MAP_CREATE`, as far as it is used.
#[repr(C)]
#[derive(Default)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

/// `union bpf_attr` of `BPF_MAP_LOOKUP_ELEM`.
#[repr(C)]
#[derive(Default)]
struct Element {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `union bpf_attr` of `BPF_OBJ_GET`.
#[repr(C)]
#[derive(Default)]
struct Pinned {
    path: u64,
    fd: u32,
    flags: u32,
}

/// `union bpf_attr` of `BPF_LINK_UPDATE`.
#[repr(C)]
#[derive(Default)]
struct LinkUpdate {
    link_fd: u32,
    new_program_fd: u32,
    flags: u32,
    old_program_fd: u32,
}

/// `union bpf_attr` of the batch commands.
#[repr(C)]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// An array of words that can be put into a map of arrays.
pub(super) fn inner_array(entries: u32) -> io::Result<OwnedFd> {
    let mut map_name = [0; 16];
    map_name[..4].copy_from_slice(b"ring");
    let mut attributes = Create {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: 4,
        max_entries: entries,
        map_flags: BPF_F_INNER_MAP,
        map_name,
        ..Create::default()
    };
    let fd = call(BPF_MAP_CREATE, &mut attributes)?;
    // SAFETY: the kernel made this descriptor for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Write all elements. On an error some may have been written.
pub(super) fn update_many<K, V>(map: BorrowedFd<'_>, keys: &[K], values: &[V]) -> io::Result<()>
where
    K: IntoBytes + Immutable,
    V: IntoBytes + Immutable,
{
    assert_eq!(keys.len(), values.len());
    if keys.is_empty() {
        return Ok(());
    }
    let mut batch = batch(map, keys.as_ptr() as u64, values.as_ptr() as u64, keys.len());
    call(BPF_MAP_UPDATE_BATCH, &mut batch).map(drop)
}

/// Remove elements up to the first that is not there.
pub(super) fn delete_many<K: IntoBytes + Immutable>(map: BorrowedFd<'_>, keys: &[K]) -> io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    call(BPF_MAP_DELETE_BATCH, &mut batch(map, keys.as_ptr() as u64, 0, keys.len())).map(drop)
}

/// Every element of a hash map, about; what comes or goes meanwhile may be there or not.
pub(super) fn all_of_hash<K, V>(map: BorrowedFd<'_>) -> io::Result<Vec<(K, V)>>
where
    K: FromBytes + IntoBytes + Copy,
    V: FromBytes + IntoBytes + Copy,
{
    // The cursor is a bucket.
    all::<K, V, u32>(map)
}

/// Every element of a trie, while nobody else writes.
pub(super) fn all_of_trie<K, V>(map: BorrowedFd<'_>) -> io::Result<Vec<(K, V)>>
where
    K: FromBytes + IntoBytes + Copy,
    V: FromBytes + IntoBytes + Copy,
{
    all::<K, V, K>(map)
}

/// `C` is what the kind of map has for a cursor.
fn all<K, V, C>(map: BorrowedFd<'_>) -> io::Result<Vec<(K, V)>>
where
    K: FromBytes + IntoBytes + Copy,
    V: FromBytes + IntoBytes + Copy,
    C: FromBytes + IntoBytes + Copy,
{
    /// Elements asked for at once; a bucket of the map holds fewer.
    const CHUNK: usize = 4096;
    let mut found = Vec::new();
    let mut keys = vec![K::new_zeroed(); CHUNK];
    let mut values = vec![V::new_zeroed(); CHUNK];
    let (mut cursor, mut next) = (C::new_zeroed(), C::new_zeroed());
    let mut first = true;
    loop {
        let mut batch = batch(map, keys.as_mut_ptr() as u64, values.as_mut_ptr() as u64, CHUNK);
        batch.in_batch = if first { 0 } else { &raw const cursor as u64 };
        batch.out_batch = &raw mut next as u64;
        let result = call(BPF_MAP_LOOKUP_BATCH, &mut batch);
        let ended = match result {
            Ok(_) => false,
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => true,
            Err(e) => return Err(e),
        };
        let count = batch.count as usize;
        found.extend(keys[..count].iter().copied().zip(values[..count].iter().copied()));
        if ended {
            return Ok(found);
        }
        first = false;
        cursor = next;
    }
}

/// Rows `first` to `first + count` of a per-CPU array; each row is one value a possible CPU.
pub(super) fn rows_per_cpu<V>(map: BorrowedFd<'_>, first: u32, count: usize, cpus: usize) -> io::Result<Vec<V>>
where
    V: FromBytes + IntoBytes + Copy,
{
    assert!(size_of::<V>().is_multiple_of(8), "the kernel rounds a per-CPU value up to eight bytes");
    values(map, first, count, cpus)
}

/// The first `count` rows of an array.
pub(super) fn rows<V: FromBytes + IntoBytes + Copy>(map: BorrowedFd<'_>, count: usize) -> io::Result<Vec<V>> {
    values(map, 0, count, 1)
}

fn values<V>(map: BorrowedFd<'_>, first: u32, count: usize, in_a_row: usize) -> io::Result<Vec<V>>
where
    V: FromBytes + IntoBytes + Copy,
{
    let mut keys = vec![0u32; count];
    let mut values = vec![V::new_zeroed(); count * in_a_row];
    let mut next = 0u32;
    let mut read = 0;
    while read < count {
        let at = &mut values[read * in_a_row..];
        let mut batch = batch(map, keys.as_mut_ptr() as u64, at.as_mut_ptr() as u64, count - read);
        // An array's cursor is the key before the first that is read.
        let cursor = (first + read as u32).wrapping_sub(1);
        batch.in_batch = if cursor == u32::MAX { 0 } else { &raw const cursor as u64 };
        batch.out_batch = &raw mut next as u64;
        match call(BPF_MAP_LOOKUP_BATCH, &mut batch) {
            Ok(_) => {}
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) && batch.count as usize + read == count => {}
            Err(e) => return Err(e),
        }
        if batch.count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the map has fewer rows"));
        }
        read += batch.count as usize;
    }
    Ok(values)
}

/// Id of the map that stands at `index` of a map of maps.
pub(super) fn inner_id(map: BorrowedFd<'_>, index: u32) -> io::Result<u32> {
    let mut id = 0u32;
    let (key, value) = (&raw const index as u64, &raw mut id as u64);
    let mut element = Element { map_fd: map.as_raw_fd() as u32, key, value, ..Element::default() };
    call(BPF_MAP_LOOKUP_ELEM, &mut element)?;
    Ok(id)
}

/// What is pinned at `path`: a map, a program or a link.
pub(super) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = Pinned { path: path.as_ptr() as u64, ..Pinned::default() };
    let fd = call(BPF_OBJ_GET, &mut attributes)?;
    // SAFETY: the kernel made this descriptor for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// From one packet to the next the link leads to `program`; only if it leads to `old`, where that is given.
pub(super) fn update_link(
    link: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    old: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attributes = LinkUpdate {
        link_fd: link.as_raw_fd() as u32,
        new_program_fd: program.as_raw_fd() as u32,
        flags: if old.is_some() { BPF_F_REPLACE } else { 0 },
        old_program_fd: old.map_or(0, |old| old.as_raw_fd() as u32),
    };
    call(BPF_LINK_UPDATE, &mut attributes).map(drop)
}

/// Told when there is something in the ring.
pub(super) fn readable(ring: RingBuf<MapData>) -> io::Result<AsyncFd<RingBuf<MapData>>> {
    // SAFETY: the ring gives the same descriptor as long as it lives, and holds it open.
    Ok(unsafe { AsyncFd::register(ring) }?)
}

fn batch(map: BorrowedFd<'_>, keys: u64, values: u64, count: usize) -> Batch {
    Batch {
        keys,
        values,
        count: u32::try_from(count).unwrap_or(u32::MAX),
        map_fd: map.as_raw_fd() as u32,
        ..Batch::default()
    }
}

/// Every address in `attributes` must lead to as many elements as its count says.
fn call<A>(command: libc::c_long, attributes: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are valid for their size, and the callers in this file give addresses of slices that
    // hold `count` elements of the map's sizes (`inner_id`: of the one element; `pinned`: of a string) and live until
    // the call is over.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
