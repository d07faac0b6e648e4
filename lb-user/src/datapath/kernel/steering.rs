//! Which worker a flow goes to: the question that `edge` and `steer` answer for every packet, answered for people.

use std::net::{IpAddr, SocketAddr};

use lb_common::abi::PROTO_TCP;
use lb_common::flow;

use crate::datapath::{FlowAnswer, FlowReason, Worker};

/// The tables of the flow hash, as they were loaded.
#[derive(Debug)]
pub(in crate::datapath) struct Table {
    pub(in crate::datapath) seed: u64,
    pub(in crate::datapath) rss: bool,
    pub(in crate::datapath) slots: Vec<u32>,
    pub(in crate::datapath) workers: Vec<Worker>,
}

impl Table {
    /// Where a TCP flow to `service` goes; none when source and destination are of different families.
    pub(in crate::datapath) fn flow(
        &self,
        service: Option<u32>,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Option<FlowAnswer> {
        let hash = self.hash(source, destination)?;
        if service.is_none() || self.rss {
            return Some(FlowAnswer { service, ..FlowAnswer::default() });
        }
        let slot = flow::slot(hash);
        let worker = self.slots.get(slot as usize).and_then(|index| self.workers.iter().find(|w| w.index == *index));
        Some(FlowAnswer {
            service,
            hash: Some(hash),
            slot: Some(slot),
            worker: worker.map(|worker| worker.index),
            cpu: worker.map(|worker| worker.cpu),
            backend: None,
            reason: worker.map(|_| FlowReason::Steered),
        })
    }

    fn hash(&self, source: SocketAddr, destination: SocketAddr) -> Option<u32> {
        let ports = (source.port(), destination.port());
        match (source.ip().to_canonical(), destination.ip().to_canonical()) {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                Some(flow::hash_v4(self.seed, s.to_bits(), d.to_bits(), ports.0, ports.1, PROTO_TCP))
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => {
                Some(flow::hash_v6(self.seed, words(s.to_bits()), words(d.to_bits()), ports.0, ports.1, PROTO_TCP))
            }
            _ => None,
        }
    }
}

pub(super) fn words(bits: u128) -> [u32; 4] {
    [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_source_is_the_ipv4_flow_and_mixed_families_are_none() {
        let workers = vec![Worker { index: 0, cpu: 3 }];
        let table = Table { seed: 5, rss: false, slots: vec![0; 4096], workers };
        let destination: SocketAddr = "10.0.0.1:443".parse().unwrap();
        let plain = table.flow(Some(1), "192.0.2.1:999".parse().unwrap(), destination);
        assert_eq!(plain, table.flow(Some(1), "[::ffff:192.0.2.1]:999".parse().unwrap(), destination));
        assert_eq!(plain.unwrap().cpu, Some(3));
        assert_eq!(table.flow(Some(1), "[2001:db8::1]:999".parse().unwrap(), destination), None);
    }

    #[test]
    fn words_are_most_significant_first() {
        assert_eq!(words(0x0000_0001_0000_0002_0000_0003_0000_0004), [1, 2, 3, 4]);
    }
}
