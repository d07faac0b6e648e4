//! The few questions and requests that go to the kernel over rtnetlink, each with a deadline.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached};
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType, RouteVia,
};
use rtnetlink::{Error, Handle, RouteMessageBuilder};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::error::failed;
use crate::datapath::DatapathError;

/// The kernel answers at once; whoever waits longer waits in vain.
const DEADLINE: Duration = Duration::from_secs(5);
/// `RT_TABLE_LOCAL` (linux/rtnetlink.h).
const TABLE_LOCAL: u8 = 255;
/// Says in the routing table who made a route (`rtm_protocol`). None of the numbers that iproute2's rt_protos names.
pub(super) const PROTOCOL: u8 = 0xb1;

/// A connection to rtnetlink, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Netlink {
    handle: Handle,
    connection: JoinHandle<()>,
}

/// A network interface.
#[derive(Debug, Clone)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) index: u32,
    /// Bytes of a packet at the most.
    pub(super) mtu: Option<u32>,
    /// Id of the XDP program on it.
    pub(super) xdp: Option<u32>,
    /// That program is in the driver.
    pub(super) native: bool,
}

/// A route of the local table: what is sent there is for this host.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LocalRoute {
    pub(super) prefix: IpAddr,
    pub(super) length: u8,
    pub(super) ours: bool,
}

/// The way to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// Where packets leave.
    pub(super) interface: u32,
    /// The next router; none: the address is a neighbour.
    pub(super) gateway: Option<IpAddr>,
    /// Bytes of a packet at the most, where the route has a bound of its own.
    pub(super) mtu: Option<u32>,
    /// It is this host.
    pub(super) local: bool,
}

impl Netlink {
    pub(super) fn open() -> Result<Self, DatapathError> {
        let (connection, handle, _) =
            rtnetlink::new_connection_with_strict_check().map_err(|e| failed("open rtnetlink", &e))?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// All interfaces by name.
    pub(super) async fn interfaces(&self) -> Result<BTreeMap<String, Interface>, DatapathError> {
        let links: Vec<LinkMessage> =
            answered("list the network interfaces", self.handle.link().get().execute().try_collect()).await?;
        Ok(links.into_iter().filter_map(interface).map(|found| (found.name.clone(), found)).collect())
    }

    /// Id of the XDP program on an interface.
    pub(super) async fn xdp(&self, index: u32) -> Result<Option<u32>, DatapathError> {
        let request = self.handle.link().get().match_index(index).execute();
        let links: Vec<LinkMessage> =
            answered("ask for the XDP program of an interface", request.try_collect()).await?;
        Ok(links.into_iter().find_map(interface).and_then(|found| found.xdp))
    }

    /// Every route of the local table, of both families.
    pub(super) async fn local_routes(&self) -> Result<Vec<LocalRoute>, DatapathError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            // The strict check makes the kernel give this table and type alone: a router has a million others.
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            message.header.table = TABLE_LOCAL;
            message.header.kind = RouteType::Local;
            let request = self.handle.route().get(message).execute();
            let found: Result<Vec<RouteMessage>, _> = answered("list the local routes", request.try_collect()).await;
            match found {
                Ok(found) => routes.extend(found.iter().filter_map(local_route)),
                // A host without IPv6 has no such table.
                Err(_) if family == AddressFamily::Inet6 => {}
                Err(e) => return Err(e),
            }
        }
        Ok(routes)
    }

    /// `ip route add local ADDRESS dev lo`. One that is there already will do.
    pub(super) async fn add_local(&self, address: IpAddr, loopback: u32) -> Result<(), DatapathError> {
        let message = host_route(address, loopback);
        let added = self.request(self.handle.route().add(message).execute()).await;
        tolerate(added, rustix::io::Errno::EXIST).map_err(|e| {
            failed(format!("make {address} a local address (ip route add local {address} dev lo; is lo up?)"), &e)
        })
    }

    /// Take a route of [`Self::add_local`] out again. One that is gone already will do.
    pub(super) async fn remove_local(&self, address: IpAddr, loopback: u32) -> Result<(), DatapathError> {
        let removed = self.request(self.handle.route().del(host_route(address, loopback)).execute()).await;
        tolerate(removed, rustix::io::Errno::SRCH)
            .map_err(|e| failed(format!("remove the local route to {address}"), &e))
    }

    /// The way to an address, as `ip route get` finds it.
    pub(super) async fn route_to(&self, address: IpAddr) -> Result<Route, DatapathError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(address);
        message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
        message.attributes.push(RouteAttribute::Destination(address.into()));
        let what = format!("find a route to {address}");
        let found: Vec<RouteMessage> =
            answered(&what, self.handle.route().get(message).execute().try_collect()).await?;
        let route = found.into_iter().next().ok_or_else(|| nothing(&what))?;
        let (mut interface, mut gateway, mut mtu) = (0, None, None);
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => interface = *index,
                RouteAttribute::Gateway(RouteAddress::Inet(v4)) => gateway = Some(IpAddr::V4(*v4)),
                RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => gateway = Some(IpAddr::V6(*v6)),
                RouteAttribute::Via(RouteVia::Inet(v4)) => gateway = Some(IpAddr::V4(*v4)),
                RouteAttribute::Via(RouteVia::Inet6(v6)) => gateway = Some(IpAddr::V6(*v6)),
                RouteAttribute::Metrics(metrics) => {
                    mtu = metrics.iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) => Some(*mtu),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        let local = route.header.kind == RouteType::Local;
        Ok(Route { interface, gateway, mtu, local })
    }

    /// `ip neigh add ADDRESS dev INTERFACE use`: find or check its MAC address, as if there were a packet for it.
    pub(super) async fn ask_for_neighbour(&self, interface: u32, address: IpAddr) -> io::Result<()> {
        let request = self.handle.neighbours().add(interface, address);
        let request = request.state(NeighbourState::None).flags(NeighbourFlags::Use).replace();
        self.request(request.execute()).await
    }

    async fn request(&self, request: impl Future<Output = Result<(), Error>>) -> io::Result<()> {
        timeout(DEADLINE, request).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map_err(io_error)
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

async fn answered<T>(what: &str, request: impl Future<Output = Result<T, Error>>) -> Result<T, DatapathError> {
    let answer = timeout(DEADLINE, request).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut));
    answer.and_then(|answer| answer.map_err(io_error)).map_err(|e| failed(what, &e))
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

fn tolerate(result: io::Result<()>, errno: rustix::io::Errno) -> io::Result<()> {
    match result {
        Err(e) if e.raw_os_error() == Some(errno.raw_os_error()) => Ok(()),
        result => result,
    }
}

fn interface(message: LinkMessage) -> Option<Interface> {
    let index = message.header.index;
    let (mut name, mut mtu, mut xdp, mut native) = (None, None, None, false);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text),
            LinkAttribute::Mtu(bytes) => mtu = Some(bytes),
            LinkAttribute::Xdp(attributes) => {
                xdp = program_id(&attributes);
                native = attributes.contains(&LinkXdp::Attached(XdpAttached::Driver));
            }
            _ => {}
        }
    }
    Some(Interface { name: name?, index, mtu, xdp, native })
}

/// With programs in several modes the kernel names each under its mode alone.
fn program_id(attributes: &[LinkXdp]) -> Option<u32> {
    attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => {
            Some(*id).filter(|id| *id != 0)
        }
        _ => None,
    })
}

fn local_route(message: &RouteMessage) -> Option<LocalRoute> {
    if message.header.table != TABLE_LOCAL || message.header.kind != RouteType::Local {
        return None;
    }
    let prefix = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })?;
    let ours = u8::from(message.header.protocol) == PROTOCOL;
    Some(LocalRoute { prefix, length: message.header.destination_prefix_length, ours })
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn nothing(what: &str) -> DatapathError {
    DatapathError::Kernel { what: what.to_owned(), why: "the kernel gave no answer".to_owned() }
}

fn host_route(address: IpAddr, loopback: u32) -> RouteMessage {
    let length = if address.is_ipv4() { 32 } else { 128 };
    let mut message = RouteMessageBuilder::<IpAddr>::new()
        .output_interface(loopback)
        .protocol(RouteProtocol::Other(PROTOCOL))
        .scope(RouteScope::Host)
        .kind(RouteType::Local)
        .build();
    message.header.address_family = family(address);
    message.header.table = TABLE_LOCAL;
    message.header.destination_prefix_length = length;
    message.attributes.push(RouteAttribute::Destination(address.into()));
    message
}
