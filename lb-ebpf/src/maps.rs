//! Every map. Keys and values are `lb_common::abi`'s; an address is held as the words of its wire form here, because
//! the BPF target has no unaligned access and would otherwise copy keys byte by byte.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, CpuMap, HashMap, PerCpuArray, SockMap};
use lb_common::Verdict;
use lb_common::abi::{
    Address, Config, Counter, DEFAULT_MAX_ADDRESSES, DEFAULT_MAX_SERVICES, MAX_CPUS, MAX_WORKERS, NO_WORKER,
    ServiceKey, ServiceValue, VipFilter, VipValue, WORKER_SLOT_COUNT, WorkerValue,
};

/// [`Address`] as four words with the bytes in wire order.
pub(crate) type AddressWords = [u32; 4];
/// [`ServiceKey`] as five words with the bytes in wire order.
pub(crate) type ServiceKeyWords = [u32; 5];

const _: () = assert!(size_of::<AddressWords>() == size_of::<Address>());
const _: () = assert!(size_of::<ServiceKeyWords>() == size_of::<ServiceKey>());

/// The mapped form of an IPv4 address (RFC 4291, 2.5.5.2), from the word as it stands in a packet.
#[inline(always)]
pub(crate) const fn mapped(v4: u32) -> AddressWords {
    [0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff]), v4]
}

/// Written by the control plane at load; read by edge and steer.
#[map]
pub(crate) static CONFIG: Array<Config> = Array::with_max_entries(1, 0);

/// Written by the control plane; read by edge.
#[map]
pub(crate) static VIPS: HashMap<AddressWords, VipValue> = HashMap::with_max_entries(DEFAULT_MAX_ADDRESSES, 0);

/// Written by the control plane; read by edge.
#[map]
pub(crate) static VIP_FILTER: Array<VipFilter> = Array::with_max_entries(1, 0);

/// Written by the control plane; read by edge and steer.
#[map]
pub(crate) static SERVICES: HashMap<ServiceKeyWords, ServiceValue> =
    HashMap::with_max_entries(DEFAULT_MAX_ADDRESSES, 0);

/// Written by the control plane; read by edge and steer.
#[map]
pub(crate) static WORKER_SLOTS: Array<u32> = Array::with_max_entries(WORKER_SLOT_COUNT, 0);

/// Written by the control plane; read by edge.
#[map]
pub(crate) static WORKERS: Array<WorkerValue> = Array::with_max_entries(MAX_WORKERS, 0);

/// Written by the control plane; read by steer where steering is `rss`.
#[map]
pub(crate) static CPU_WORKER: Array<u32> = Array::with_max_entries(MAX_CPUS, 0);

/// Written by the control plane; read by steer.
#[map]
pub(crate) static WORKER_SOCKETS: SockMap = SockMap::with_max_entries(MAX_WORKERS, 0);

/// Written by the control plane; read by edge. Sized to the machine's CPUs at load.
#[map]
pub(crate) static CPUS: CpuMap = CpuMap::with_max_entries(MAX_CPUS, 0);

/// Written by edge; read by the control plane.
#[map]
pub(crate) static COUNTERS: PerCpuArray<Counter> =
    PerCpuArray::with_max_entries((DEFAULT_MAX_SERVICES + 1) * Verdict::COUNT, 0);

/// Written by steer; read by the control plane.
#[map]
pub(crate) static WORKER_FLOWS: PerCpuArray<u64> = PerCpuArray::with_max_entries(MAX_WORKERS, 0);

/// False for most addresses that are no service's.
#[inline(always)]
pub(crate) fn may_be_vip(address: &AddressWords) -> bool {
    let bit = lb_common::flow::filter_bit(address);
    let word = VIP_FILTER.get(0).and_then(|filter| filter.0.get((bit / 64) as usize));
    word.is_some_and(|word| word >> (bit % 64) & 1 != 0)
}

/// The service of exactly this address, port (host order; 0: the entry for all ports) and protocol.
#[inline(always)]
pub(crate) fn service(address: &AddressWords, port: u16, protocol: u8) -> Option<ServiceValue> {
    // SAFETY: an entry that is replaced meanwhile gives the id or the kind of either value; both are in force then.
    unsafe { SERVICES.get(service_key(address, port, protocol)) }.copied()
}

/// Port in host order.
#[inline(always)]
pub(crate) const fn service_key(address: &AddressWords, port: u16, protocol: u8) -> ServiceKeyWords {
    let [high, low] = port.to_be_bytes();
    let last = u32::from_ne_bytes([high, low, protocol, 0]);
    [address[0], address[1], address[2], address[3], last]
}

/// The worker behind a flow's slot, none where no worker stands.
#[inline(always)]
pub(crate) fn slot_worker(hash: u32) -> Option<u32> {
    WORKER_SLOTS.get(lb_common::flow::slot(hash)).copied().filter(|worker| *worker != NO_WORKER)
}
