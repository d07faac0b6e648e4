//! The decapsulation program on an interface of a backend's host, and the local routes of the inner destinations.

use std::collections::BTreeSet;
use std::net::IpAddr;

use aya::maps::{HashMap, MapData, PerCpuArray};
use aya::programs::Xdp;
use aya::programs::links::FdLink;
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use lb_common::abi;

use super::attach;
use super::error::failed;
use super::load::program;
use super::maps::take;
use super::netlink::Netlink;
use super::plan::wire;
use super::routes::Routes;
use crate::datapath::{DatapathError, DecapCounters, DecapOptions};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bailey-decap"));
const DECAP: &str = "decap";

/// A running program; dropping it detaches it.
pub struct Decap {
    // Before the object: a link that is gone takes the program off the interface.
    _link: FdLink,
    counters: PerCpuArray<MapData, u64>,
    netlink: Netlink,
    routes: Routes,
    _ebpf: Ebpf,
}

impl Decap {
    /// Load, attach, make the addresses local. On an error everything is taken out again.
    pub async fn open(options: DecapOptions) -> Result<Self, DatapathError> {
        let addresses = unicast(&options.addresses)?;
        let netlink = Netlink::open()?;
        let names = [options.interface, "lo".to_owned()];
        let mut interfaces = attach::interfaces(&netlink, &names).await?;
        let loopback = interfaces.iter().find(|found| found.name == names[1]).map_or(1, |lo| lo.index);
        interfaces.retain(|found| found.name == names[0]);
        let unknown = || DatapathError::NoInterface { name: names[0].clone(), available: names[1].clone() };
        let interface = interfaces.pop().ok_or_else(unknown)?;
        attach::check_free(&netlink, &interface, &[]).await?;

        let mut ebpf = load(&addresses)?;
        let counters = take(&mut ebpf, abi::DECAP_COUNTERS)?;
        let mut routes = Routes::open(&netlink, loopback, &[]).await?;
        routes.add(&netlink, &addresses).await?;
        let attached = program(&mut ebpf, DECAP).and_then(|xdp| attach::by_link(xdp, &interface, options.native));
        match attached {
            Ok((link, _)) => Ok(Self { _link: link, counters, netlink, routes, _ebpf: ebpf }),
            Err(e) => {
                routes.keep_only(&netlink, &BTreeSet::new()).await;
                Err(e)
            }
        }
    }

    /// Since it was opened.
    pub fn counters(&self) -> Result<DecapCounters, DatapathError> {
        let row = |row| -> Result<u64, DatapathError> {
            let cpus = self.counters.get(&row, 0).map_err(|e| failed("read DECAP_COUNTERS", &e))?;
            Ok(cpus.iter().sum())
        };
        Ok(DecapCounters {
            taken_off: row(abi::DECAP_TAKEN_OFF)?,
            other: row(abi::DECAP_OTHER)?,
            malformed: row(abi::DECAP_MALFORMED)?,
        })
    }

    /// Take everything out of the kernel again.
    pub async fn close(mut self) -> Result<(), DatapathError> {
        self.routes.keep_only(&self.netlink, &BTreeSet::new()).await;
        match self.routes.added().next() {
            None => Ok(()),
            Some(left) => Err(DatapathError::Kernel {
                what: format!("remove the local route to {left}"),
                why: format!("the kernel did not; remove it by hand: ip route del local {left} dev lo"),
            }),
        }
    }
}

fn unicast(addresses: &[IpAddr]) -> Result<BTreeSet<IpAddr>, DatapathError> {
    let addresses: BTreeSet<IpAddr> = addresses.iter().map(IpAddr::to_canonical).collect();
    match addresses.iter().find(|address| address.is_unspecified() || address.is_multicast() || address.is_loopback()) {
        None => Ok(addresses),
        Some(address) => Err(DatapathError::Kernel {
            what: format!("decapsulate packets for {address}"),
            why: "it is no unicast address of a service; name those that clients connect to".to_owned(),
        }),
    }
}

fn load(addresses: &BTreeSet<IpAddr>) -> Result<Ebpf, DatapathError> {
    let entries = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let mut ebpf = EbpfLoader::new()
        .map_max_entries(abi::DECAP_ADDRESSES, entries)
        .load(OBJECT)
        .map_err(|e| failed("load the BPF object of decapsulation", &e))?;
    let mut known: HashMap<MapData, [u8; 16], u32> = take(&mut ebpf, abi::DECAP_ADDRESSES)?;
    for address in addresses {
        known.insert(wire(*address).0, 1, 0).map_err(|e| failed("write DECAP_ADDRESSES", &e))?;
    }
    let xdp: &mut Xdp = program(&mut ebpf, DECAP)?;
    xdp.load().map_err(|e| failed("load the XDP program `decap`", &e))?;
    Ok(ebpf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_unicast_and_each_counts_once() {
        let of = |texts: &[&str]| unicast(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>());
        assert_eq!(of(&["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"]).unwrap().len(), 2);
        for bad in ["0.0.0.0", "224.0.0.1", "127.0.0.1", "::", "ff02::1", "::1"] {
            assert!(of(&["192.0.2.1", bad]).unwrap_err().to_string().contains(bad));
        }
    }
}
