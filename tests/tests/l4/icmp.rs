//! ICMP of forwarded services: echo, and errors in both directions.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_common::abi::PROTO_UDP;
use lb_tests::edge::Edge;
use lb_tests::forwarding::verdicts;
use lb_tests::lab::{CLIENT4, Lab, VIP4};
use lb_tests::lines::{Lines, datagram};
use lb_tests::wait::{PATIENCE, wait_ok};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};

use crate::site::{VIPS, service};

const PORT: u16 = 7000;
/// MTU in the message.
const MTU: u16 = 1300;

pub(crate) fn ping() -> Result<()> {
    let lab = Lab::forwarding(1)?;
    let pool = [lab.backend(0, PORT), lab.backend6(0, PORT)];
    for ports in ["7000", "*"] {
        let _edge = Edge::start(&lab, &lab.forwards("", &service("nat", ports, &pool, "")))?;
        for vip in VIPS {
            lab.client.output("ping", &["-c", "2", "-i", "0.2", "-W", "2", &vip.to_string()])?;
        }
    }
    Ok(())
}

pub(crate) fn traceroute() -> Result<()> {
    let lab = Lab::forwarding(1)?;
    let pool = [lab.backend(0, PORT), lab.backend6(0, PORT)];
    let _server = Lines::start(&lab.backends[0], "one", &pool)?;
    let edge = Edge::start(&lab, &lab.forwards("", &service("nat", "7000", &pool, "")))?;
    for vip in VIPS {
        // The way is found, and no probe of the first hop is lost to a neighbour that is still asked for.
        datagram(&lab.client, SocketAddr::new(vip, PORT))?;
        for how in ["-U", "-T"] {
            let vip = vip.to_string();
            let text = lab
                .client
                .output("traceroute", &["-n", "-N", "1", "-q", "1", "-w", "2", "-m", "4", how, "-p", "7000", &vip])?;
            let hops: Vec<&str> = text.lines().skip(1).collect();
            // The edge speaks as the service; behind it is the service itself.
            ensure!(hops.len() == 2 && hops.iter().all(|hop| hop.contains(&vip)), "{how}: {text}");
        }
    }
    ensure!(verdicts(&edge, "web", &["ttl_expired"])? >= 4.0);
    Ok(())
}

pub(crate) fn unreachable() -> Result<()> {
    let lab = Lab::forwarding(1)?;
    let pool = [lab.backend(0, PORT), lab.backend6(0, PORT)];
    let edge = Edge::start(&lab, &lab.forwards("", &service("nat", "80", &pool, "")))?;
    for vip in VIPS {
        // A connected socket is told of errors that its own peer sends, and of no others.
        let refused = || {
            lab.client.run(|| {
                let socket = UdpSocket::bind(SocketAddr::new(crate::site::client(vip), 0))?;
                socket.connect((vip, 80))?;
                socket.set_read_timeout(Some(Duration::from_secs(1)))?;
                socket.send(b"nobody listens")?;
                Ok(socket.recv(&mut [0; 16]).err())
            })
        };
        wait_ok("the refusal", PATIENCE, || {
            let error = refused()?;
            let kind = error.as_ref().map(std::io::Error::kind);
            ensure!(kind == Some(std::io::ErrorKind::ConnectionRefused), "{vip}: {error:?}");
            Ok(())
        })?;
    }
    ensure!(verdicts(&edge, "web", &["icmp_error_reply"])? >= 2.0);
    Ok(())
}

pub(crate) fn frag_needed() -> Result<()> {
    let lab = Lab::forwarding(3)?;
    let pool: Vec<SocketAddr> = (0..3).map(|i| lab.backend(i, PORT)).collect();
    let servers =
        (0..3_u8).map(|i| Lines::start(&lab.backends[usize::from(i)], &i.to_string(), &[lab.backend(i, PORT)]));
    let _servers = servers.collect::<Result<Vec<_>>>()?;
    let edge = Edge::start(&lab, &lab.forwards("", &service("nat", "80", &pool, "")))?;
    let answer = wait_ok("an answer", PATIENCE, || datagram(&lab.client, (VIP4, 80).into()))?;
    let owner: usize = answer.name.parse()?;
    let message = message(answer.peer.port());
    lab.client.run(|| {
        let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP))?;
        Ok(sendto(&raw, &message, SendFlags::empty(), &SocketAddr::from((VIP4, 0)))?)
    })?;
    let knows = |i: usize| -> Result<bool> {
        let route = lab.backends[i].output("ip", &["route", "get", &CLIENT4.to_string()])?;
        Ok(route.contains(&format!("mtu {MTU}")))
    };
    wait_ok("the backend to learn the MTU", PATIENCE, || {
        ensure!(knows(owner)?, "{}", verdicts(&edge, "web", &["icmp_error_forward"])?);
        Ok(())
    })?;
    for other in (0..3).filter(|i| *i != owner) {
        ensure!(!knows(other)?, "backend {other} was told of a flow of backend {owner}");
    }
    ensure!(verdicts(&edge, "web", &["icmp_error_forward"])? == 1.0);
    Ok(())
}

/// "Fragmentation needed" about a datagram of the service to the client's port (RFC 1191).
fn message(port: u16) -> Vec<u8> {
    let mut message = vec![3, 4, 0, 0, 0, 0];
    message.extend(MTU.to_be_bytes());
    message.extend(header(VIP4, CLIENT4, 1480));
    message.extend([80_u16, port, 1480 - 20, 0].map(u16::to_be_bytes).concat());
    let checksum = checksum(&message);
    message[2..4].copy_from_slice(&checksum);
    message
}

fn header(source: Ipv4Addr, destination: Ipv4Addr, length: u16) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend(length.to_be_bytes());
    header.extend([0, 7, 0x40, 0, 60, PROTO_UDP, 0, 0]);
    header.extend(source.octets());
    header.extend(destination.octets());
    let checksum = checksum(&header);
    header[10..12].copy_from_slice(&checksum);
    header
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
}
