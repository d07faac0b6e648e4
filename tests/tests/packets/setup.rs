//! The services that every packet meets, and `edge` with its workers in four places.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, OnceLock};

use lb_common::Verdict;
use lb_tests::privilege;
use lb_user::datapath::probe::{Probe, XdpAction};
use lb_user::datapath::{Desired, DesiredService, Worker};
use tls_worker::api::ListenAddress;

/// Service 1 is on port 443 of these.
pub(crate) const VIP4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
pub(crate) const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xed9e, 0, 0, 0, 0, 0x10);
pub(crate) const HTTPS: u16 = 443;
/// Service 2 is on every port of these, service 3 on port 8443.
pub(crate) const ALL4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 20);
pub(crate) const ALL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xed9e, 0, 0, 0, 0, 0x20);
pub(crate) const EXACT: u16 = 8443;
/// No service's.
pub(crate) const PLAIN4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);
pub(crate) const PLAIN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xed9e, 0, 0, 0, 0, 0x99);

/// Where the workers are, seen from the CPU that the packet is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Steer {
    /// One, on this CPU.
    Here,
    /// One, on another CPU.
    Elsewhere,
    /// Steering is `rss`.
    Rss,
    /// None.
    Nowhere,
}

impl Steer {
    pub(crate) fn flow(self) -> Verdict {
        match self {
            Steer::Here => Verdict::SteerLocal,
            Steer::Elsewhere => Verdict::SteerRedirect,
            Steer::Rss => Verdict::SteerRss,
            Steer::Nowhere => Verdict::NoWorker,
        }
    }

    pub(crate) fn error(self) -> Verdict {
        match self {
            Steer::Here | Steer::Rss => Verdict::IcmpErrorLocal,
            Steer::Elsewhere => Verdict::IcmpErrorSteer,
            Steer::Nowhere => Verdict::NoWorker,
        }
    }
}

/// One `edge`, and the CPU that its packets are run on.
pub(crate) struct Bench {
    probe: Mutex<Probe>,
    cpu: u32,
}

/// What was seen of one packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) action: XdpAction,
    pub(crate) unchanged: bool,
    /// Service, verdict, packets and bytes of every row that grew.
    pub(crate) counted: Vec<(u32, &'static str, u64, u64)>,
}

impl Bench {
    pub(crate) fn open(rss: bool, workers: &[Worker], cpu: u32) -> Result<Self, String> {
        Self::with_steering(rss, &desired(), workers, cpu)
    }

    /// Steering by hash, with other services.
    pub(crate) fn with(desired: &Desired, workers: &[Worker], cpu: u32) -> Result<Self, String> {
        Self::with_steering(false, desired, workers, cpu)
    }

    fn with_steering(rss: bool, desired: &Desired, workers: &[Worker], cpu: u32) -> Result<Self, String> {
        let probe = Probe::open(rss, workers, desired).map_err(|e| e.to_string())?;
        Ok(Self { probe: Mutex::new(probe), cpu })
    }

    /// One for each [`Steer`]; on a machine with one CPU all but [`Steer::Elsewhere`].
    pub(crate) fn all() -> Result<&'static [(Steer, Self)], String> {
        static ALL: OnceLock<Result<Vec<(Steer, Bench)>, String>> = OnceLock::new();
        ALL.get_or_init(make_all).as_deref().map_err(Clone::clone)
    }

    pub(crate) fn probe(&self) -> std::sync::MutexGuard<'_, Probe> {
        privilege::pin_to(self.cpu).expect("a CPU that this process may use");
        self.probe.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn run(&self, frame: &[u8]) -> Result<Seen, String> {
        let probe = self.probe();
        let before = counted(&probe)?;
        let outcome = probe.run(frame).map_err(|e| e.to_string())?;
        let counted = grown(&before, counted(&probe)?);
        Ok(Seen { action: outcome.action, unchanged: outcome.output == frame, counted })
    }
}

pub(crate) fn listen(address: impl Into<IpAddr>, port: Option<u16>) -> ListenAddress {
    ListenAddress { address: address.into(), port }
}

pub(crate) fn desired() -> Desired {
    let service = |id, addresses: Vec<ListenAddress>| DesiredService { id, name: format!("service-{id}"), addresses };
    Desired {
        services: vec![
            service(1, vec![listen(VIP4, Some(HTTPS)), listen(VIP6, Some(HTTPS))]),
            service(2, vec![listen(ALL4, None), listen(ALL6, None)]),
            service(3, vec![listen(ALL4, Some(EXACT)), listen(ALL6, Some(EXACT))]),
        ],
        ..Desired::default()
    }
}

/// Service, verdict, packets and bytes of every row that grew.
pub(crate) fn grown(before: &Rows, after: Rows) -> Vec<(u32, &'static str, u64, u64)> {
    let grown = after.into_iter().filter_map(|((service, verdict), (packets, bytes))| {
        let (p, b) = before.get(&(service, verdict)).copied().unwrap_or_default();
        ((packets, bytes) != (p, b)).then_some((service, verdict, packets - p, bytes - b))
    });
    grown.collect()
}

pub(crate) type Rows = BTreeMap<(u32, &'static str), (u64, u64)>;

pub(crate) fn counted(probe: &Probe) -> Result<Rows, String> {
    let rows = probe.counters().map_err(|e| e.to_string())?;
    Ok(rows.into_iter().map(|row| ((row.service, row.verdict), (row.packets, row.bytes))).collect())
}

fn make_all() -> Result<Vec<(Steer, Bench)>, String> {
    let cpus = privilege::cpus();
    let here = *cpus.first().ok_or("no CPU to run on")?;
    let on = |cpu| [Worker { index: 0, cpu }];
    let mut all = vec![
        (Steer::Here, Bench::open(false, &on(here), here)?),
        (Steer::Rss, Bench::open(true, &on(here), here)?),
        (Steer::Nowhere, Bench::open(false, &[], here)?),
    ];
    match cpus.get(1) {
        Some(other) => all.push((Steer::Elsewhere, Bench::open(false, &on(*other), here)?)),
        None => eprintln!("packets: redirects are not tried: this machine has one CPU"),
    }
    Ok(all)
}
