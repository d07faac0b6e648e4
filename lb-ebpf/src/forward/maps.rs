//! Maps of forwarding; see `lb_common::abi`.

use aya_ebpf::bindings::BPF_F_INNER_MAP;
use aya_ebpf::btf_maps;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, DevMapHash, HashMap, LruHashMap, PerCpuArray};
use lb_common::abi::{
    BackendCounter, BackendValue, CLIENT_HOP_COUNT, DEFAULT_MAX_ADDRESSES, DEFAULT_MAX_BACKENDS, DEFAULT_MAX_FLOWS,
    DEFAULT_MAX_SERVICES, FlowCounter, FlowKey, FlowValue, ForwardValue, HopValue, MAX_DEVICES, ReverseValue,
};

use crate::maps::ServiceKeyWords;

/// [`FlowKey`] as words with the bytes in wire order.
pub(crate) type FlowKeyWords = [u32; 10];

const _: () = assert!(size_of::<FlowKeyWords>() == size_of::<FlowKey>());

const SERVICES: u32 = DEFAULT_MAX_SERVICES + 1;

/// Written by the control plane; read by edge.
#[map]
pub(crate) static FORWARD: Array<ForwardValue> = Array::with_max_entries(SERVICES, 0);

/// One array of slots for a service and family. Written by the control plane, whole and aside; read by edge.
#[btf_map]
pub(crate) static RINGS: btf_maps::ArrayOfMaps<
    btf_maps::Array<u32, 1, { BPF_F_INNER_MAP as usize }>,
    { SERVICES as usize * 2 },
> = btf_maps::ArrayOfMaps::new();

/// Written by the control plane; read by edge.
#[map]
pub(crate) static BACKENDS: Array<BackendValue> = Array::with_max_entries(DEFAULT_MAX_BACKENDS + 1, 0);

/// Written by edge; read and purged by the control plane.
#[map]
pub(crate) static FLOWS: LruHashMap<FlowKeyWords, FlowValue> = LruHashMap::with_max_entries(DEFAULT_MAX_FLOWS, 0);

/// Written by the control plane; read by edge.
#[map]
pub(crate) static REVERSE: HashMap<ServiceKeyWords, ReverseValue> = HashMap::with_max_entries(DEFAULT_MAX_ADDRESSES, 0);

/// Written and read by edge.
#[map]
pub(crate) static BACKEND_HOPS: PerCpuArray<HopValue> = PerCpuArray::with_max_entries(DEFAULT_MAX_BACKENDS + 1, 0);

/// Written and read by edge.
#[map]
pub(crate) static CLIENT_HOPS: PerCpuArray<HopValue> = PerCpuArray::with_max_entries(CLIENT_HOP_COUNT, 0);

/// Written by the control plane; read by edge.
#[map]
pub(crate) static DEVICES: DevMapHash = DevMapHash::with_max_entries(MAX_DEVICES, 0);

/// Written by edge; read by the control plane.
#[map]
pub(crate) static BACKEND_COUNTERS: PerCpuArray<BackendCounter> =
    PerCpuArray::with_max_entries(DEFAULT_MAX_BACKENDS + 1, 0);

/// Written by edge; read by the control plane.
#[map]
pub(crate) static FLOW_COUNTERS: PerCpuArray<FlowCounter> = PerCpuArray::with_max_entries(SERVICES, 0);
