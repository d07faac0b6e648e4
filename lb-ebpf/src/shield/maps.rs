//! Maps of the shield; see `lb_common::abi`.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, LpmTrie, LruHashMap};
use lb_common::abi::{
    BucketValue, DEFAULT_MAX_PREFIXES, DEFAULT_MAX_SERVICES, DEFAULT_MAX_SOURCES, PrefixV4, PrefixV6, PrefixValue,
    ShieldValue, SourceKey, SourceValue,
};

/// [`PrefixV4`] as words with the bytes in wire order.
pub(crate) type PrefixV4Words = [u32; 2];
/// [`PrefixV6`] as words with the bytes in wire order.
pub(crate) type PrefixV6Words = [u32; 6];
/// [`SourceKey`] as words with the bytes in wire order.
pub(crate) type SourceKeyWords = [u32; 5];

const _: () = assert!(size_of::<PrefixV4Words>() == size_of::<PrefixV4>());
const _: () = assert!(size_of::<PrefixV6Words>() == size_of::<PrefixV6>());
const _: () = assert!(size_of::<SourceKeyWords>() == size_of::<SourceKey>());

const SERVICES: u32 = DEFAULT_MAX_SERVICES + 1;

/// Written by the control plane; read by edge.
#[map]
pub(crate) static SHIELD: Array<ShieldValue> = Array::with_max_entries(SERVICES, 0);

/// Written by the control plane; read by edge.
#[map]
pub(crate) static PREFIXES_V4: LpmTrie<PrefixV4Words, PrefixValue> =
    LpmTrie::with_max_entries(DEFAULT_MAX_PREFIXES, BPF_F_NO_PREALLOC);

/// Written by the control plane; read by edge.
#[map]
pub(crate) static PREFIXES_V6: LpmTrie<PrefixV6Words, PrefixValue> =
    LpmTrie::with_max_entries(DEFAULT_MAX_PREFIXES, BPF_F_NO_PREALLOC);

/// Written and read by edge.
#[map]
pub(crate) static SOURCES: LruHashMap<SourceKeyWords, SourceValue> =
    LruHashMap::with_max_entries(DEFAULT_MAX_SOURCES, 0);

/// Written by edge; read by edge and the control plane.
#[map]
pub(crate) static BUCKETS: Array<BucketValue> = Array::with_max_entries(SERVICES, 0);
