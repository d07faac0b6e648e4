//! Where a flow of a forwarded service would go: the question that `edge` answers for every packet, answered for people.

use std::net::{IpAddr, SocketAddr};

use lb_common::abi::{self, Be16, FlowKey};
use lb_common::flow;
use lb_common::select::{self, Backend, NONE};

use super::Forwarding;
use crate::datapath::kernel::plan::{hash_number, number_of, wire};
use crate::datapath::kernel::steering::words;
use crate::datapath::{FlowAnswer, FlowReason, Protocol};

impl Forwarding {
    /// Where a flow to the service `id` would go; none when that is not forwarded, or the families differ.
    pub(in crate::datapath) fn flow(
        &self,
        id: u32,
        protocol: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Option<FlowAnswer> {
        let service = self.in_force.state.services.get(&id)?;
        let policy = hash_number(service.forward.hash);
        let number = number_of(protocol);
        let ports = (source.port(), destination.port());
        let (hash, v6) = match (source.ip().to_canonical(), destination.ip().to_canonical()) {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                (flow::forward_v4(self.hash_seed, policy, s.to_bits(), d.to_bits(), ports, number), false)
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => {
                let (s, d) = (words(s.to_bits()), words(d.to_bits()));
                (flow::forward_v6(self.hash_seed, policy, s, d, ports, number), true)
            }
            _ => return None,
        };
        let index = select::slot_of(hash, service.forward.slots);
        let slot = service.rings[usize::from(v6)].get(index as usize)?;
        let (backend, reason) = if slot.is_settled() {
            (slot.current, FlowReason::Settled)
        } else {
            let key = FlowKey {
                source: wire(source.ip().to_canonical()),
                destination: wire(destination.ip().to_canonical()),
                source_port: Be16::new(ports.0),
                destination_port: Be16::new(ports.1),
                protocol: number.into(),
            };
            match self.tables.flow(&key).filter(|known| known.ring == abi::ring(id, v6)) {
                Some(known) => (known.backend as Backend, FlowReason::Remembered),
                None => (slot.current, FlowReason::Moved),
            }
        };
        let reason = if backend == NONE { FlowReason::NoBackend } else { reason };
        Some(FlowAnswer {
            service: Some(id),
            hash: Some(hash),
            slot: Some(index),
            backend: service.backend(backend),
            reason: Some(reason),
            ..FlowAnswer::default()
        })
    }
}
