//! What the kernel's tables hold, and which writes lead from one content to another. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use lb_common::abi::{
    self, Address, Be16, KIND_FORWARDED, KIND_TERMINATED, PROTO_TCP, PROTO_UDP, SERVICE_KEEP_PORT, SERVICE_LIMITS,
    SERVICE_PREFIXES, ServiceKey, ServiceValue, VIP_ALL_PORTS, VIP_FORWARDED, VIP_TERMINATED, VipValue,
};
use tls_worker::api::ListenAddress;

use crate::datapath::{DatapathError, Desired, DesiredForward, ForwardHash, ForwardMode, Ports, Protocol};

/// Sizes that were chosen at load.
#[derive(Debug, Clone, Copy)]
pub(in crate::datapath) struct Bounds {
    pub(in crate::datapath) services: u32,
    pub(in crate::datapath) addresses: u32,
}

/// Content of `SERVICES` and `VIPS`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::datapath) struct State {
    services: BTreeMap<ServiceKey, ServiceValue>,
    vips: BTreeMap<Address, VipValue>,
    addresses: BTreeSet<IpAddr>,
    forwarded: BTreeSet<u32>,
}

/// One write; without a value the entry is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::datapath) enum Write {
    Service(ServiceKey, Option<ServiceValue>),
    Vip(Address, Option<VipValue>),
}

/// The writes from one state to another. Between them every entry that is in both is found; each entry is replaced
/// whole, and a packet reads one of each table, so it meets the old state of its service or the new one.
#[derive(Debug, Default)]
pub(in crate::datapath) struct Plan {
    /// First. Services before the addresses that lead to them.
    pub(in crate::datapath) add: Vec<Write>,
    /// Last. Addresses before their services.
    pub(in crate::datapath) remove: Vec<Write>,
}

impl State {
    /// What `desired` asks for, if it is within `bounds`.
    pub(in crate::datapath) fn of(desired: &Desired, bounds: Bounds) -> Result<Self, DatapathError> {
        let mut state = Self::default();
        for service in &desired.services {
            let refuse = |listen: &ListenAddress, kind, why: &str| DatapathError::Listen {
                address: written(listen),
                service: service.name.clone(),
                source: io::Error::new(kind, why),
            };
            if service.id == 0 || service.id > bounds.services {
                return Err(full("services", service.id as usize, bounds.services, "max_services"));
            }
            for listen in &service.addresses {
                if listen.address.is_unspecified() || listen.address.is_multicast() || listen.port == Some(0) {
                    let why = "BPF steers single unicast addresses; name the address, and a port or *";
                    return Err(refuse(listen, io::ErrorKind::InvalidInput, why));
                }
                let flags = flags(desired, service.id);
                let value = ServiceValue { id: service.id, kind: KIND_TERMINATED, mode: 0, hash: 0, flags };
                let key = key(listen.address, listen.port.unwrap_or(0), PROTO_TCP);
                if state.services.insert(key, value).is_some() {
                    return Err(refuse(listen, io::ErrorKind::AddrInUse, "two services, or one twice, ask for it"));
                }
                state.vip(listen.address, VIP_TERMINATED, listen.port.is_none());
            }
        }
        for forward in &desired.forwards {
            state.forward(forward, desired, bounds)?;
        }
        if state.services.len() > bounds.addresses as usize {
            return Err(full("addresses of all services", state.services.len(), bounds.addresses, "max_addresses"));
        }
        Ok(state)
    }

    fn forward(&mut self, forward: &DesiredForward, desired: &Desired, bounds: Bounds) -> Result<(), DatapathError> {
        let refuse = |why: String| DatapathError::Forward { service: forward.name.clone(), why };
        if forward.id == 0 || forward.id > bounds.services {
            return Err(full("services", forward.id as usize, bounds.services, "max_services"));
        }
        for listen in &forward.addresses {
            if listen.address.is_unspecified() || listen.address.is_multicast() {
                return Err(refuse(format!("{listen} is no single unicast address")));
            }
            let (ports, keep_port) = match listen.ports {
                Ports::All => (0..=0, true),
                Ports::Range(first, last) if first == 0 || last < first => {
                    return Err(refuse(format!("{listen}: ports go from the lower to the higher, 1 at the least")));
                }
                Ports::Range(first, last) => (first..=last, first != last),
            };
            let keep_port = if keep_port { SERVICE_KEEP_PORT } else { 0 };
            let value = ServiceValue {
                id: forward.id,
                kind: KIND_FORWARDED,
                mode: mode_number(forward.mode),
                hash: hash_number(forward.hash),
                flags: flags(desired, forward.id) | keep_port,
            };
            for protocol in &forward.protocols {
                for port in ports.clone() {
                    if self.services.insert(key(listen.address, port, number_of(*protocol)), value).is_some() {
                        return Err(refuse(format!("another service, or this one twice, has {listen} ({protocol})")));
                    }
                }
                if self.services.len() > bounds.addresses as usize {
                    let count = self.services.len();
                    return Err(full("addresses and ports of all services", count, bounds.addresses, "max_addresses"));
                }
            }
            self.vip(listen.address, VIP_FORWARDED, listen.ports == Ports::All);
        }
        self.forwarded.insert(forward.id);
        Ok(())
    }

    fn vip(&mut self, address: IpAddr, kind: u32, all_ports: bool) {
        let flags = kind | if all_ports { VIP_ALL_PORTS } else { 0 };
        self.vips.entry(wire(address)).or_insert(VipValue { flags: 0 }).flags |= flags;
        self.addresses.insert(address);
    }

    /// An entry of `SERVICES` that is there already.
    pub(super) fn found_service(&mut self, key: ServiceKey, value: ServiceValue) {
        if value.kind == KIND_FORWARDED {
            self.forwarded.insert(value.id);
        }
        self.services.insert(key, value);
    }

    /// An entry of `VIPS` that is there already.
    pub(super) fn found_vip(&mut self, address: Address, value: VipValue) {
        self.addresses.insert(IpAddr::from(address.0).to_canonical());
        self.vips.insert(address, value);
    }

    /// Forwarded services, with [`ServiceValue::hash`].
    pub(super) fn forwarded(&self) -> BTreeMap<u32, u8> {
        let forwarded = self.services.values().filter(|value| value.kind == KIND_FORWARDED);
        forwarded.map(|value| (value.id, value.hash)).collect()
    }

    /// Addresses of all services.
    pub(in crate::datapath) fn addresses(&self) -> &BTreeSet<IpAddr> {
        &self.addresses
    }

    /// Id of the service at this address and port, as the kernel half finds it.
    pub(in crate::datapath) fn service(&self, address: IpAddr, port: u16, protocol: Protocol) -> Option<u32> {
        let at = |port| self.services.get(&key(address, port, number_of(protocol)));
        at(port).or_else(|| at(0)).map(|value| value.id)
    }

    /// Whether any service is forwarded.
    pub(in crate::datapath) fn forwards(&self) -> bool {
        !self.forwarded.is_empty()
    }

    /// Whether a service is forwarded.
    pub(in crate::datapath) fn is_forwarded(&self, id: u32) -> bool {
        self.forwarded.contains(&id)
    }

    /// Ids of the services.
    pub(in crate::datapath) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.services.values().map(|value| value.id)
    }

    /// The write that brings back what this state holds in place of `write`.
    pub(in crate::datapath) fn inverse(&self, write: &Write) -> Write {
        match write {
            Write::Service(key, _) => Write::Service(*key, self.services.get(key).copied()),
            Write::Vip(address, _) => Write::Vip(*address, self.vips.get(address).copied()),
        }
    }
}

impl Plan {
    pub(in crate::datapath) fn between(from: &State, to: &State) -> Self {
        let mut plan = Self::default();
        let new_services = to.services.iter().filter(|(key, value)| from.services.get(key) != Some(value));
        plan.add.extend(new_services.map(|(key, value)| Write::Service(*key, Some(*value))));
        let new_vips = to.vips.iter().filter(|(address, value)| from.vips.get(address) != Some(value));
        plan.add.extend(new_vips.map(|(address, value)| Write::Vip(*address, Some(*value))));

        let old_vips = from.vips.keys().filter(|address| !to.vips.contains_key(address));
        plan.remove.extend(old_vips.map(|address| Write::Vip(*address, None)));
        let old_services = from.services.keys().filter(|key| !to.services.contains_key(key));
        plan.remove.extend(old_services.map(|key| Write::Service(*key, None)));
        plan
    }
}

/// An address as the tables hold it.
pub(in crate::datapath) fn wire(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => Address::v4(v4.octets()),
        IpAddr::V6(v6) => Address::v6(v6.octets()),
    }
}

/// A key of the tables; port 0 for all ports.
pub(super) fn key(address: IpAddr, port: u16, protocol: u8) -> ServiceKey {
    ServiceKey { address: wire(address), port: Be16::new(port), protocol, pad: 0 }
}

/// IANA number.
pub(super) fn number_of(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => PROTO_TCP,
        Protocol::Udp => PROTO_UDP,
    }
}

fn mode_number(mode: ForwardMode) -> u8 {
    match mode {
        ForwardMode::Nat => abi::MODE_NAT,
        ForwardMode::Ipip => abi::MODE_IPIP,
        ForwardMode::L2 => abi::MODE_L2,
    }
}

/// [`ServiceValue::hash`].
pub(super) fn hash_number(hash: ForwardHash) -> u8 {
    match hash {
        ForwardHash::Flow => abi::HASH_FLOW,
        ForwardHash::Source => abi::HASH_SOURCE,
        ForwardHash::SourceDestination => abi::HASH_SOURCE_DESTINATION,
    }
}

/// What the shield has of a service.
fn flags(desired: &Desired, id: u32) -> u8 {
    let limits = if desired.limits.contains_key(&id) { SERVICE_LIMITS } else { 0 };
    let at = desired.prefixes.partition_point(|rule| rule.service < id);
    let prefixes = match desired.prefixes.get(at) {
        Some(rule) if rule.service == id => SERVICE_PREFIXES,
        _ => 0,
    };
    limits | prefixes
}

fn written(listen: &ListenAddress) -> String {
    let port = listen.port.map_or_else(|| "*".to_owned(), |port| port.to_string());
    match listen.address {
        IpAddr::V4(v4) => format!("{v4}:{port}"),
        IpAddr::V6(v6) => format!("[{v6}]:{port}"),
    }
}

fn full(what: &'static str, count: usize, bound: u32, key: &'static str) -> DatapathError {
    DatapathError::Full { what, count, bound: bound as usize, key }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::DesiredService;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds { services: 8, addresses: 16 };

    fn listen(last: u8, port: Option<u16>) -> ListenAddress {
        ListenAddress { address: IpAddr::from([10, 0, 0, last]), port }
    }

    fn desired(services: &[(u32, &[ListenAddress])]) -> Desired {
        let services = services
            .iter()
            .map(|(id, addresses)| DesiredService { id: *id, name: format!("s{id}"), addresses: addresses.to_vec() })
            .collect();
        Desired { services, ..Desired::default() }
    }

    fn write(state: &mut State, write: &Write) {
        match *write {
            Write::Service(key, Some(value)) => drop(state.services.insert(key, value)),
            Write::Service(key, None) => drop(state.services.remove(&key)),
            Write::Vip(address, Some(value)) => drop(state.vips.insert(address, value)),
            Write::Vip(address, None) => drop(state.vips.remove(&address)),
        }
    }

    #[test]
    fn an_exact_port_goes_before_every_port() {
        let state = State::of(&desired(&[(1, &[listen(1, None)]), (2, &[listen(1, Some(443))])]), BOUNDS).unwrap();
        assert_eq!(state.service([10, 0, 0, 1].into(), 443, Protocol::Tcp), Some(2));
        assert_eq!(state.service([10, 0, 0, 1].into(), 80, Protocol::Tcp), Some(1));
        assert_eq!(state.service([10, 0, 0, 2].into(), 80, Protocol::Tcp), None);
        assert_eq!(state.vips.values().next().unwrap().flags, VIP_ALL_PORTS | VIP_TERMINATED);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_key() {
        let many: Vec<ListenAddress> = (0..17).map(|i| listen(i + 1, Some(80))).collect();
        let error = State::of(&desired(&[(1, &many)]), BOUNDS).unwrap_err();
        assert!(matches!(error, DatapathError::Full { key: "max_addresses", count: 17, bound: 16, .. }));
        let error = State::of(&desired(&[(9, &[listen(1, None)])]), BOUNDS).unwrap_err();
        assert!(matches!(error, DatapathError::Full { key: "max_services", count: 9, bound: 8, .. }));
    }

    #[test]
    fn an_address_twice_or_unspecified_is_refused() {
        let twice = desired(&[(1, &[listen(1, Some(80))]), (2, &[listen(1, Some(80))])]);
        let error = State::of(&twice, BOUNDS).unwrap_err().to_string();
        assert!(error.contains("10.0.0.1:80") && error.contains("\"s2\""), "{error}");
        let any = ListenAddress { address: IpAddr::from([0; 4]), port: Some(80) };
        assert!(matches!(State::of(&desired(&[(1, &[any])]), BOUNDS), Err(DatapathError::Listen { .. })));
    }

    prop_compose! {
        fn states()(entries in vec((1u32..8, 1u8..6, prop::option::of(1u16..4)), 0..12)) -> State {
            let mut seen = BTreeSet::new();
            let mut services: BTreeMap<u32, Vec<ListenAddress>> = BTreeMap::new();
            for (id, last, port) in entries {
                if seen.insert((last, port)) {
                    services.entry(id).or_default().push(listen(last, port));
                }
            }
            let services: Vec<(u32, &[ListenAddress])> = services.iter().map(|(id, a)| (*id, &a[..])).collect();
            State::of(&desired(&services), BOUNDS).unwrap()
        }
    }

    proptest! {
        #[test]
        fn a_plan_leads_there_and_its_inverse_back(from in states(), to in states()) {
            let plan = Plan::between(&from, &to);
            let mut state = from.clone();
            let writes: Vec<&Write> = plan.add.iter().chain(&plan.remove).collect();
            for w in &writes {
                write(&mut state, w);
                // Whoever was served before and is served after is served meanwhile.
                for key in from.services.keys().filter(|key| to.services.contains_key(key)) {
                    prop_assert!(state.services.contains_key(key) && state.vips.contains_key(&key.address));
                }
            }
            prop_assert_eq!((&state.services, &state.vips), (&to.services, &to.vips));
            for w in writes.iter().rev() {
                write(&mut state, &from.inverse(w));
            }
            prop_assert_eq!((&state.services, &state.vips), (&from.services, &from.vips));
        }

        #[test]
        fn equal_states_need_no_write(state in states()) {
            let plan = Plan::between(&state, &state);
            prop_assert!(plan.add.is_empty() && plan.remove.is_empty());
        }
    }
}
