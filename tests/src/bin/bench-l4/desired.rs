//! The states that `edge` is measured in, and the traffic for each.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lb_tests::lab::{VIP4, VIP6};
use lb_user::datapath::{
    Desired, DesiredForward, DesiredService, ForwardBackend, ForwardHash, ForwardMode, KernelOptions, Limits, Ports,
    PrefixRule, Protocol, ServiceAddress, Steering, SynCookies, Tuning, Worker,
};
use tls_worker::api::{BackendState, ListenAddress};

use crate::stage::{NEAR, far, near};

const FLOWS: [u32; 4] = [1, 1_000, 100_000, 1_000_000];
/// Where flows that are measured come from, and those on deny lists.
const SOURCES: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(10, 64, 0, 0), Ipv6Addr::new(0xfd64, 0, 0, 0, 0, 0, 0, 0));
const DENIED: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(20, 0, 0, 0), Ipv6Addr::new(0xfd65, 0, 0, 0, 0, 0, 0, 0));
const STEER: u16 = 443;
const NAT: u16 = 80;
const IPIP: u16 = 81;
const L2: u16 = 82;
/// First of ten thousand.
const MANY: u16 = 10_000;
/// Slots of the ring of one service, and of one of ten thousand.
const SLOTS: u32 = 65_537;
const SMALL: u32 = 251;

/// A state, and what is sent to it.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) options: KernelOptions,
    pub(crate) desired: Desired,
    pub(crate) cases: Vec<Case>,
}

/// One figure of the table.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) v6: bool,
    /// None: every frame begins a flow of its own.
    pub(crate) flows: Option<u32>,
    pub(crate) from: IpAddr,
    pub(crate) to: SocketAddr,
    /// Destination ports.
    pub(crate) ports: u16,
    /// What nearly all of the frames have to come to.
    pub(crate) verdict: &'static str,
}

pub(crate) fn groups(cpu: u32) -> Vec<Group> {
    let plain = |name, desired, cases| Group { name, options: options(cpu), desired, cases };
    let everything = || Desired { services: vec![terminated()], forwards: forwards(), ..Desired::default() };
    let modes = [
        ("steer", STEER, "steer_local"),
        ("nat", NAT, "forward_nat"),
        ("ipip", IPIP, "forward_ipip"),
        ("l2", L2, "forward_l2"),
    ];
    let by_flows = modes.into_iter().flat_map(|(name, port, verdict)| {
        families(move |v6| FLOWS.map(|flows| case(name.into(), v6, Some(flows), SOURCES, port, verdict)).to_vec())
    });
    let mut all = vec![plain("modes", everything(), by_flows.collect())];
    for (entries, words) in [(1, "1 entry"), (1_000_000, "1,000,000 entries")] {
        let desired = Desired { prefixes: Arc::new(denied(entries)), ..everything() };
        let cases = families(|v6| {
            let name = |what: &str| format!("deny list of {words}, {what}");
            vec![
                case(name("nat, not on it"), v6, Some(1_000_000), SOURCES, NAT, "forward_nat"),
                case(name("dropped"), v6, Some(1_000_000), DENIED, NAT, "denied"),
            ]
        });
        all.push(plain("deny lists", desired, cases));
    }
    let desired = Desired { limits: BTreeMap::from([(1, always_cookies())]), ..everything() };
    let cookies = families(|v6| vec![case("SYN cookie".into(), v6, None, SOURCES, STEER, "syn_cookie")]);
    all.push(plain("SYN cookies", desired, cookies));
    let many = (0..10_000).map(|n| {
        let backends = near(n % NEAR, MANY + n);
        forward(10 + u32::from(n), ForwardMode::Nat, MANY + n, SMALL, backends.into_iter())
    });
    for count in [1, 10_000_u16] {
        let desired = Desired { forwards: many.clone().take(count.into()).collect(), ..Desired::default() };
        let cases = families(|v6| {
            let to = |name: &str, ports| Case {
                ports,
                ..case(name.into(), v6, Some(100_000), SOURCES, MANY, "forward_nat")
            };
            match count {
                1 => vec![to("nat, 1 service", 1)],
                _ => vec![to("nat, 10,000 services, to one", 1), to("nat, 10,000 services, to all", count)],
            }
        });
        all.push(plain("services", desired, cases));
    }
    for (count, words) in [(1, "nat, 1 backend"), (4096, "nat, 4,096 backends")] {
        let backends = (0..count).flat_map(|n| far(n, 8080));
        let desired =
            Desired { forwards: vec![forward(2, ForwardMode::Nat, NAT, SLOTS, backends)], ..Desired::default() };
        let cases = families(|v6| vec![case(words.into(), v6, Some(100_000), SOURCES, NAT, "forward_nat")]);
        all.push(plain("backends", desired, cases));
    }
    all
}

fn families(cases: impl Fn(bool) -> Vec<Case>) -> Vec<Case> {
    [cases(false), cases(true)].concat()
}

fn case(
    name: String,
    v6: bool,
    flows: Option<u32>,
    from: (Ipv4Addr, Ipv6Addr),
    port: u16,
    verdict: &'static str,
) -> Case {
    let (from, to): (IpAddr, IpAddr) = if v6 { (from.1.into(), VIP6.into()) } else { (from.0.into(), VIP4.into()) };
    Case { name, v6, flows, from, to: (to, port).into(), ports: 1, verdict }
}

fn options(cpu: u32) -> KernelOptions {
    KernelOptions {
        name: lb_tests::netns::unique_name(),
        interfaces: ["wan", "dmz1"].map(str::to_owned).to_vec(),
        native: true,
        steering: Steering::Hash,
        // Where the generator is: no frame is moved to another CPU.
        workers: vec![Worker { index: 0, cpu }],
        max_services: 16_384,
        max_addresses: 65_536,
        packet_log_sample: 0,
        tuning: Tuning { max_backends: 32_768, events_per_second: 100, ..Tuning::default() },
    }
}

fn terminated() -> DesiredService {
    let listen = |address| ListenAddress { address, port: Some(STEER) };
    DesiredService { id: 1, name: "web".into(), addresses: vec![listen(VIP4.into()), listen(VIP6.into())] }
}

/// A service of each mode, with 16 backends of either family.
fn forwards() -> Vec<DesiredForward> {
    let modes = [(2, ForwardMode::Nat, NAT), (3, ForwardMode::Ipip, IPIP), (4, ForwardMode::L2, L2)];
    let one = |(id, mode, port)| forward(id, mode, port, SLOTS, (0..NEAR).flat_map(|n| near(n, 8080)));
    modes.into_iter().map(one).collect()
}

fn forward(
    id: u32,
    mode: ForwardMode,
    port: u16,
    slots: u32,
    backends: impl Iterator<Item = SocketAddr>,
) -> DesiredForward {
    let mut backends: Vec<ForwardBackend> =
        backends.map(|address| ForwardBackend { address, weight: 1, state: BackendState::Up }).collect();
    backends.sort_by_key(|backend| backend.address);
    let addresses = [IpAddr::from(VIP4), VIP6.into()];
    DesiredForward {
        id,
        name: format!("forward{id}"),
        addresses: addresses.map(|address| ServiceAddress { address, ports: Ports::Range(port, port) }).to_vec(),
        protocols: vec![Protocol::Tcp],
        mode,
        hash: ForwardHash::Flow,
        slots,
        drain: Duration::from_secs(1),
        udp_idle: Duration::from_secs(120),
        outer_mtu: None,
        backends,
    }
}

/// One prefix that holds every denied source, or every one of them by itself.
fn denied(entries: u32) -> Vec<PrefixRule> {
    let rule = |network| PrefixRule { service: 0, network, allow: false, until: None };
    let (v4, v6) = (u32::from(DENIED.0), u128::from(DENIED.1));
    let net = |address: IpAddr, bits: u8| ipnet::IpNet::new_assert(address, bits).trunc();
    if entries == 1 {
        return vec![rule(net(DENIED.0.into(), 12)), rule(net(DENIED.1.into(), 64))];
    }
    let fours = (0..entries).map(|n| rule(net(Ipv4Addr::from(v4 + n).into(), 32)));
    let sixes = (0..entries).map(|n| rule(net(Ipv6Addr::from(v6 + u128::from(n)).into(), 128)));
    fours.chain(sixes).collect()
}

fn always_cookies() -> Limits {
    Limits {
        source_packets: None,
        source_connections: None,
        packets: None,
        connections: None,
        source_v4: 32,
        source_v6: 64,
        syn_cookies: SynCookies::Always,
    }
}
