//! Decapsulation on a backend's host: what a raw socket sends in an outer header arrives at a socket of the VIP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use lb_tests::packet::{Packet, patched};
use lb_user::datapath::{Datapath as _, DatapathError, Decap, DecapCounters, DecapOptions, KernelDatapath, Steering};
use libtest_mimic::{Failed, Trial};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};

use crate::edge::*;
use crate::lab::*;

const PATIENCE: Duration = Duration::from_secs(3);
const PORT: u16 = 5353;
/// The same host by IPv6.
const EDGE6: &str = "fd77::2";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("decapsulation, native: each family in each", || in_lab(async |lab| carried(lab, true).await)),
        Trial::test("decapsulation, generic: each family in each", || in_lab(async |lab| carried(lab, false).await)),
        Trial::test("decapsulation: what is malformed is dropped, what is another's is left", || in_lab(refused)),
        Trial::test("decapsulation: an interface with another's program is refused", || in_lab(foreign)),
    ]
}

fn in_lab(test: impl AsyncFnOnce(&Lab) -> Result<(), Failed> + Send) -> Result<(), Failed> {
    let lab = Lab::new()?;
    lab.in_edge(|| block_on(test(&lab)))
}

fn options(native: bool) -> DecapOptions {
    let addresses = [VIP4, VIP6].map(|address| address.parse().expect("an address")).to_vec();
    DecapOptions { interface: INTERFACE.to_owned(), addresses, native }
}

/// A UDP datagram of the client to `destination`.
fn inner(destination: IpAddr, data: &[u8]) -> Vec<u8> {
    let packet = match destination {
        IpAddr::V4(v4) => Packet::quote().ipv4(Ipv4Addr::new(10, 77, 0, 1), v4, &[]),
        IpAddr::V6(v6) => Packet::quote().ipv6("fd77::1".parse::<Ipv6Addr>().expect("an address"), v6),
    };
    packet.udp(40_000, PORT).put(data).build()
}

/// Send it from the client in an outer header of the family of `to`.
fn send(lab: &Lab, to: &str, inner_v6: bool, inner: &[u8]) -> Result<(), Failed> {
    let to = at(to, 0);
    let family = if to.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let protocol = if inner_v6 { ipproto::IPV6 } else { ipproto::IPIP };
    let sent = lab.in_client(|| -> std::io::Result<()> {
        let socket = socket(family, SocketType::RAW, Some(protocol))?;
        sendto(&socket, inner, SendFlags::empty(), &to)?;
        Ok(())
    });
    Ok(sent?)
}

async fn carried(lab: &Lab, native: bool) -> Result<(), Failed> {
    let decap = Decap::open(options(native)).await?;
    let mut sent = 0;
    for vip in [VIP4, VIP6] {
        let vip: IpAddr = vip.parse()?;
        // A local route makes no IPv6 address of the host's, to which a socket could be bound.
        let any: IpAddr = if vip.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, PORT))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        for outer in [EDGE4, EDGE6] {
            // The longest that fits in an outer IPv6 header.
            for len in [1, 900, 1500 - 40 - 40 - 8] {
                let data = vec![len as u8; len];
                send(lab, outer, vip.is_ipv6(), &inner(vip, &data))?;
                let mut buffer = [0; 2000];
                let (received, from) =
                    socket.recv_from(&mut buffer).map_err(|e| format!("{vip} in {outer}, {len} bytes: {e}"))?;
                assert!(buffer[..received] == data && from.port() == 40_000, "{vip} in {outer}: {from}");
                sent += 1;
            }
        }
    }
    assert_eq!(decap.counters()?, DecapCounters { taken_off: sent, other: 0, malformed: 0 });
    decap.close().await?;
    let left = lab.edge_ip("route show table local")? + &lab.edge_ip("-6 route show table local")?;
    assert!(!left.contains(VIP4) && !left.contains(VIP6), "{left}");
    assert!(!lab.edge_ip(&format!("link show dev {INTERFACE}"))?.contains("xdp"));
    Ok(())
}

async fn refused(lab: &Lab) -> Result<(), Failed> {
    let decap = Decap::open(options(true)).await?;
    let (vip4, vip6): (IpAddr, IpAddr) = (VIP4.parse()?, VIP6.parse()?);
    let malformed = [
        (false, patched(inner(vip4, &[1]), 0, &[0x65])),
        (false, patched(inner(vip4, &[1]), 0, &[0x44])),
        (false, patched(inner(vip4, &[1]), 2, &[0, 30])),
        (false, patched(inner(vip4, &[1]), 2, &[0, 19])),
        (false, inner(vip4, &[])[..19].to_vec()),
        (false, inner(vip6, &[1])),
        (true, patched(inner(vip6, &[1]), 0, &[0x40])),
        (true, patched(inner(vip6, &[1]), 4, &[0, 10])),
        (true, inner(vip6, &[])[..39].to_vec()),
        (true, inner(vip4, &[1])),
    ];
    let expected = malformed.len() as u64;
    for (inner_v6, bytes) in malformed {
        send(lab, EDGE4, inner_v6, &bytes)?;
    }
    for other in [ALL4, ALL6] {
        let other: IpAddr = other.parse()?;
        send(lab, EDGE4, other.is_ipv6(), &inner(other, &[1]))?;
    }
    let wanted = DecapCounters { taken_off: 0, other: 2, malformed: expected };
    let begin = Instant::now();
    while decap.counters()? != wanted {
        if begin.elapsed() > PATIENCE {
            return Err(format!("wanted {wanted:?}, got {:?}", decap.counters()?).into());
        }
        tokio::task::yield_now().await;
    }
    Ok(decap.close().await?)
}

async fn foreign(lab: &Lab) -> Result<(), Failed> {
    let edge = KernelDatapath::open(crate::edge::options("there-first", Steering::Hash), None).await?;
    let error = Decap::open(options(true)).await.err().ok_or("not refused")?;
    assert!(matches!(error, DatapathError::ForeignProgram { .. }), "{error}");
    assert!(!lab.edge_ip("route show table local")?.contains(VIP4));
    Ok(edge.close().await?)
}
