//! A lab for forwarded services: ends of cables that take frames of XDP, backends that answer
//! for the service's address, and a cable of each of these straight to the client.
//!
//! ```text
//! client backN ──────────────── eth1 backendN
//! 10.79.N.1 · fd79:N::1          10.79.N.2 · fd79:N::2
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Result, ensure};

use crate::edge::Edge;
use crate::foreign::{self, Foreign};
use crate::lab::{CLIENT4, CLIENT6, Lab, VIP4, VIP6};
use crate::need::binary;
use crate::netns::{Namespace, cable};
use crate::process::Process;
use crate::wait::{PATIENCE, wait_ok};

/// How a backend comes to answer for a service's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// The address is on its loopback (`l2`).
    Loopback,
    /// `bailey decap` makes it local (`ipip`).
    Decap,
}

impl Lab {
    /// A lab with so many backends whose ends of cables take frames of XDP.
    pub fn forwarding(backends: u8) -> Result<Self> {
        let lab = Self::new(backends)?;
        lab.take(&lab.client)?;
        lab.backends.iter().try_for_each(|space| lab.take(space))?;
        Ok(lab)
    }

    /// Have this end of a cable take what XDP sends at the other one: veth delivers it only where there is a program.
    /// With GRO alone such frames lie in its ring until something else comes.
    fn take(&self, space: &Namespace) -> Result<()> {
        let taker = foreign::attach(space, "eth0")?;
        self.takers().insert(space.name().to_owned(), taker);
        Ok(())
    }

    /// Make room for another program at this end, which takes frames instead.
    pub fn leave(&self, space: &Namespace) {
        drop(self.takers().remove(space.name()));
    }

    fn takers(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Foreign>> {
        self.takers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Config of an edge that is attached to every cable, with `more` keys under `[edge]` and then `services`.
    pub fn forwards(&self, more: &str, services: &str) -> String {
        let dmz = (1..=self.backends.len()).map(|number| format!(", \"dmz{number}\""));
        let interfaces = format!("interfaces = [\"wan\"{}]", dmz.collect::<String>());
        self.config(more).replace("interfaces = [\"wan\"]", &interfaces) + services
    }

    /// Give backend `i` a cable straight to the client and the service's addresses. `bailey decap` runs while what
    /// this gives lives.
    pub fn answers_directly(&self, i: u8, own: Own) -> Result<Option<Process>> {
        let (space, number) = (&self.backends[usize::from(i)], i + 1);
        let back = format!("back{number}");
        cable(("eth1", space), (&back, &self.client))?;
        self.client.ip(&format!("address add 10.79.{number}.1/24 dev {back}"))?;
        self.client.ip(&format!("address add fd79:{number}::1/64 dev {back} nodad"))?;
        space.ip(&format!("address add 10.79.{number}.2/24 dev eth1"))?;
        space.ip(&format!("address add fd79:{number}::2/64 dev eth1 nodad"))?;
        space.ip(&format!("route add {CLIENT4}/32 via 10.79.{number}.1"))?;
        space.ip(&format!("-6 route add {CLIENT6}/128 via fd79:{number}::1"))?;
        // What comes back by another interface than it went out of, or is for an address of another one, is meant here.
        for interface in ["all", "default", "eth0", &back] {
            let key = format!("net.ipv4.conf.{interface}.rp_filter");
            let space = if interface == back { &self.client } else { space };
            sysctl(space, &key, 0)?;
        }
        for interface in ["all", "default", "eth0"] {
            sysctl(&self.client, &format!("net.ipv4.conf.{interface}.rp_filter"), 0)?;
        }
        sysctl(space, "net.ipv4.conf.all.arp_ignore", 1)?;
        sysctl(space, "net.ipv4.conf.all.arp_announce", 2)?;
        match own {
            Own::Loopback => {
                space.ip(&format!("address add {VIP4}/32 dev lo"))?;
                space.ip(&format!("address add {VIP6}/128 dev lo nodad"))?;
                Ok(None)
            }
            Own::Decap => {
                // IPv6 lets nobody bind to an address that is local by a route alone.
                sysctl(space, "net.ipv6.ip_nonlocal_bind", 1)?;
                decap(self, space, number).map(Some)
            }
        }
    }
}

fn decap(lab: &Lab, space: &Namespace, number: u8) -> Result<Process> {
    // Where decapsulation is to be, it is the program that takes frames.
    lab.leave(space);
    let mut command = space.host_command(binary("bailey")?);
    command.args(["decap", "--interface", "eth0", "--address", &VIP4.to_string(), "--address", &VIP6.to_string()]);
    let mut process = Process::start(&format!("decap{number}"), lab.folder(), &mut command)?;
    wait_ok("decapsulation", PATIENCE, || {
        ensure!(process.ended().is_none(), "it ended: {}", process.log());
        let link = space.output("ip", &["-d", "-j", "link", "show", "dev", "eth0"])?;
        ensure!(link.contains("\"xdp\""), "no program: {link}");
        for vip in [IpAddr::from(VIP4), VIP6.into()] {
            let route = space.output("ip", &["route", "get", &vip.to_string()])?;
            ensure!(route.contains("local"), "{route}");
        }
        Ok(())
    })?;
    Ok(process)
}

/// Set a kernel parameter of a namespace.
pub fn sysctl(space: &Namespace, key: &str, value: u32) -> Result<()> {
    space.output("sysctl", &["-q", "-w", &format!("{key}={value}")]).map(drop)
}

/// Packets of a service with one of these verdicts.
pub fn verdicts(edge: &Edge, service: &str, names: &[&str]) -> Result<f64> {
    let metrics = edge.metrics()?;
    let one = |name: &&str| metrics.sum("bailey_packets_total", &[("service", service), ("verdict", name)]);
    Ok(names.iter().map(one).sum())
}
