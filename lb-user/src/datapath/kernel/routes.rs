//! Local routes: they make the stack take packets for a service's address, without the address on any interface.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::netlink::{LocalRoute, Netlink};
use crate::datapath::DatapathError;

/// The routes that this edge made. An address that is the host's own anyway is not among them, and not touched.
#[derive(Debug)]
pub(super) struct Routes {
    loopback: u32,
    added: BTreeSet<IpAddr>,
}

impl Routes {
    /// Those that an edge of this name has made for `left`, its addresses.
    pub(super) async fn open(netlink: &Netlink, loopback: u32, left: &[IpAddr]) -> Result<Self, DatapathError> {
        let mut routes = Self { loopback, added: BTreeSet::new() };
        if !left.is_empty() {
            routes.find_again(netlink, left).await?;
        }
        Ok(routes)
    }

    /// Look which of what was added, and of what another edge of this name may have added for `addresses`, is there.
    pub(super) async fn find_again<'a>(
        &mut self,
        netlink: &Netlink,
        addresses: impl IntoIterator<Item = &'a IpAddr>,
    ) -> Result<(), DatapathError> {
        let present = netlink.local_routes().await?;
        self.added.extend(addresses);
        self.added.retain(|address| standing(&present, *address) == Standing::Ours);
        Ok(())
    }

    /// Addresses that are local by a route of ours.
    pub(super) fn added(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.added.iter().copied()
    }

    /// Make all of `wanted` local. On an error none was added. Gives those that were.
    pub(super) async fn add(
        &mut self,
        netlink: &Netlink,
        wanted: &BTreeSet<IpAddr>,
    ) -> Result<BTreeSet<IpAddr>, DatapathError> {
        let mut new = BTreeSet::new();
        if wanted.is_subset(&self.added) {
            return Ok(new);
        }
        let present = netlink.local_routes().await?;
        for address in wanted.difference(&self.added.clone()) {
            match standing(&present, *address) {
                Standing::Local => continue,
                // Left by an edge that was killed: taken over.
                Standing::Ours => {}
                Standing::Absent => {
                    if let Err(e) = netlink.add_local(*address, self.loopback).await {
                        self.remove(netlink, &new).await;
                        return Err(e);
                    }
                }
            }
            new.insert(*address);
            self.added.insert(*address);
        }
        Ok(new)
    }

    /// Remove every route but those of `wanted`.
    pub(super) async fn keep_only(&mut self, netlink: &Netlink, wanted: &BTreeSet<IpAddr>) {
        let unwanted: BTreeSet<IpAddr> = self.added.difference(wanted).copied().collect();
        self.remove(netlink, &unwanted).await;
    }

    /// Remove these. One that cannot be removed stays on the list and is tried again at the next change.
    pub(super) async fn remove(&mut self, netlink: &Netlink, addresses: &BTreeSet<IpAddr>) {
        for address in addresses {
            match netlink.remove_local(*address, self.loopback).await {
                Ok(()) => drop(self.added.remove(address)),
                Err(e) => tracing::warn!(%address, error = %e, "a local route could not be removed"),
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// The host's own: an address of an interface, or somebody else's route.
    Local,
    /// Local by a route of an edge.
    Ours,
    Absent,
}

fn standing(routes: &[LocalRoute], address: IpAddr) -> Standing {
    let covering = routes.iter().filter(|route| covers(route, address));
    covering.fold(Standing::Absent, |standing, route| match (standing, route.ours) {
        (Standing::Local, _) | (_, false) => Standing::Local,
        _ => Standing::Ours,
    })
}

fn covers(route: &LocalRoute, address: IpAddr) -> bool {
    let same_bits = |a: u128, b: u128, width: u32| {
        let host_bits = width.saturating_sub(u32::from(route.length));
        a.checked_shr(host_bits).unwrap_or(0) == b.checked_shr(host_bits).unwrap_or(0)
    };
    match (route.prefix, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same_bits(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same_bits(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(prefix: &str, length: u8, ours: bool) -> LocalRoute {
        LocalRoute { prefix: prefix.parse().unwrap(), length, ours }
    }

    #[test]
    fn an_address_is_local_by_itself_or_by_a_prefix() {
        let routes = [route("127.0.0.0", 8, false), route("10.0.0.5", 32, false), route("10.0.0.7", 32, true)];
        let of = |address: &str| standing(&routes, address.parse().unwrap());
        assert_eq!(of("127.1.2.3"), Standing::Local);
        assert_eq!(of("10.0.0.5"), Standing::Local);
        assert_eq!(of("10.0.0.6"), Standing::Absent);
        assert_eq!(of("10.0.0.7"), Standing::Ours);
        assert_eq!(of("::1"), Standing::Absent);
    }

    #[test]
    fn the_hosts_own_goes_before_ours() {
        let routes = [route("2001:db8::1", 128, true), route("2001:db8::", 64, false)];
        assert_eq!(standing(&routes, "2001:db8::1".parse().unwrap()), Standing::Local);
    }

    #[test]
    fn a_route_of_length_zero_covers_its_family() {
        let routes = [route("::", 0, false)];
        assert_eq!(standing(&routes, "2001:db8::1".parse().unwrap()), Standing::Local);
        assert_eq!(standing(&routes, "10.0.0.1".parse().unwrap()), Standing::Absent);
    }
}
