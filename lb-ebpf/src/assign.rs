//! From a socket lookup to a worker's listener, by the hash that `edge` computed from the packet. One listener a
//! worker serves every address, port and family; what no service owns is left to the ordinary lookup.

use aya_ebpf::bindings::bpf_sk_lookup;
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::programs::SkLookupContext;
use lb_common::abi::{Config, KIND_TERMINATED, NO_WORKER, PROTO_TCP, STEERING_RSS};
use lb_common::flow;

use crate::maps::{self, AddressWords};

/// `AF_INET` and `AF_INET6` (linux/socket.h).
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// One load of a field's own width: the verifier refuses loads of the context that were merged or split.
macro_rules! field {
    ($lookup:ident.$field:ident $([$index:literal])?) => {
        // SAFETY: the kernel gives a valid context; a volatile read keeps its width.
        unsafe { (&raw const (*($lookup as *const bpf_sk_lookup)).$field $([$index])?).read_volatile() }
    };
}

macro_rules! words {
    ($lookup:ident.$field:ident) => {
        [field!($lookup.$field[0]), field!($lookup.$field[1]), field!($lookup.$field[2]), field!($lookup.$field[3])]
    };
}

/// Where `steer` begins: assign the connection to its worker's listener, or leave it alone.
#[inline(always)]
pub(crate) fn connection(ctx: &SkLookupContext, config: &Config) {
    let Some(tuple) = Tuple::read(ctx) else { return };
    let Some(worker) = tuple.worker(config) else { return };
    // An error means that this worker has no socket now; the ordinary lookup then refuses the connection.
    if maps::WORKER_SOCKETS.redirect_sk_lookup(ctx, worker, 0).is_ok()
        && let Some(flows) = maps::WORKER_FLOWS.get_ptr_mut(worker)
    {
        // SAFETY: the pointer is this CPU's element, and the lookup runs in softirq on it.
        unsafe { *flows += 1 };
    }
}

/// A TCP connection; `remote` is the client.
struct Tuple {
    v6: bool,
    remote: AddressWords,
    local: AddressWords,
    remote_port: u16,
    local_port: u16,
}

impl Tuple {
    #[inline(always)]
    fn read(ctx: &SkLookupContext) -> Option<Self> {
        let lookup = ctx.lookup;
        // Every field is loaded before the first branch: behind one, the compiler would share a load between the
        // branches through a computed pointer, which the verifier refuses. Fields of the other family are zero.
        let (family, protocol) = (field!(lookup.family), field!(lookup.protocol));
        let (remote_ip4, local_ip4) = (field!(lookup.remote_ip4), field!(lookup.local_ip4));
        let remote_ip6 = words!(lookup.remote_ip6);
        let local_ip6 = words!(lookup.local_ip6);
        // The kernel gives addresses and the remote port in network order, the local port in host order.
        let remote_port = u16::from_be(field!(lookup.remote_port));
        let local_port = field!(lookup.local_port) as u16;

        if protocol != u32::from(PROTO_TCP) {
            return None;
        }
        let (v6, remote, local) = match family {
            AF_INET => (false, maps::mapped(remote_ip4), maps::mapped(local_ip4)),
            AF_INET6 => (true, remote_ip6, local_ip6),
            _ => return None,
        };
        Some(Self { v6, remote, local, remote_port, local_port })
    }

    #[inline(always)]
    fn worker(&self, config: &Config) -> Option<u32> {
        let service = maps::service(&self.local, self.local_port, PROTO_TCP)
            .or_else(|| maps::service(&self.local, 0, PROTO_TCP))?;
        if service.kind != KIND_TERMINATED {
            return None;
        }
        if config.steering == STEERING_RSS {
            // SAFETY: the helper has no precondition.
            let cpu = unsafe { bpf_get_smp_processor_id() };
            if let Some(worker) = maps::CPU_WORKER.get(cpu).copied().filter(|worker| *worker != NO_WORKER) {
                return Some(worker);
            }
        }
        maps::slot_worker(self.hash(config.seed))
    }

    #[inline(always)]
    fn hash(&self, seed: u64) -> u32 {
        if self.v6 {
            let remote = self.remote.map(u32::from_be);
            let local = self.local.map(u32::from_be);
            flow::hash_v6(seed, remote, local, self.remote_port, self.local_port, PROTO_TCP)
        } else {
            let remote = u32::from_be(self.remote[3]);
            let local = u32::from_be(self.local[3]);
            flow::hash_v4(seed, remote, local, self.remote_port, self.local_port, PROTO_TCP)
        }
    }
}
