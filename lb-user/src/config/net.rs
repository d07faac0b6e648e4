//! Networks and ports in the config's words: `IP:1000-2000`, CIDR prefixes, and files of prefixes. Pure.

use super::scalar::{self, Wrong};
use crate::datapath::{Ports, ServiceAddress};
use ipnet::{IpNet, Ipv4Net};
use std::net::{IpAddr, SocketAddr};

/// Wrong lines of a file are told one by one up to so many.
const MAX_TOLD: usize = 10;

/// `IP:PORT`, `IP:FIRST-LAST`, `IP:*` of a forwarded service; IPv6 in brackets.
pub(super) fn service_address(text: &str) -> Result<ServiceAddress, Wrong> {
    if let Some((host, ports)) = text.rsplit_once(':')
        && let Some((first, last)) = ports.split_once('-')
    {
        // Whatever is wrong with the rest is told as with one port.
        let one = scalar::listen_address(&format!("{host}:{first}"))?;
        let last = last.parse::<u16>().ok().filter(|last| one.port.is_some_and(|first| first <= *last));
        return match (one.port, last) {
            (Some(first), Some(last)) => Ok(ServiceAddress { address: one.address, ports: Ports::Range(first, last) }),
            _ => Err(Wrong::new(
                format!("{ports:?} is no range of ports"),
                "write the first and the last port, the lower one first: \"192.0.2.10:1000-2000\"",
            )),
        };
    }
    let one = scalar::listen_address(text)?;
    let ports = one.port.map_or(Ports::All, |port| Ports::Range(port, port));
    Ok(ServiceAddress { address: one.address, ports })
}

/// A network as `192.0.2.0/24`, or one address. Mapped IPv4 is IPv4.
pub fn prefix(text: &str) -> Result<IpNet, String> {
    network(text).map_err(|wrong| wrong.to_string())
}

/// A network or one address.
pub(super) fn network(text: &str) -> Result<IpNet, Wrong> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    match text.parse::<IpNet>() {
        Ok(net) if net.trunc() == net => Ok(canonical(net)),
        Ok(net) => Err(Wrong::new(
            format!("{text:?} has bits of a host"),
            format!("write the network: \"{}\"; or the one address: \"{}\"", net.trunc(), net.addr()),
        )),
        Err(_) if text.parse::<SocketAddr>().is_ok() => {
            Err(Wrong::new(format!("{text:?} has a port"), "write the address or network alone"))
        }
        Err(_) => Err(Wrong::new(
            format!("{text:?} is no network"),
            "write \"192.0.2.0/24\", \"2001:db8::/32\" or one address",
        )),
    }
}

fn canonical(net: IpNet) -> IpNet {
    let mapped = match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => v6.addr().to_ipv4_mapped(),
        _ => None,
    };
    let v4 = mapped.and_then(|address| Ipv4Net::new(address, net.prefix_len() - 96).ok());
    v4.map_or(net, IpNet::V4)
}

/// A file of prefixes: one a line, `#` begins a comment. Gives what could be read, and what is wrong as
/// `LINE: what; what to write`.
pub fn prefix_file(text: &[u8]) -> (Vec<IpNet>, Vec<String>) {
    let (mut found, mut wrong, mut more) = (Vec::new(), Vec::new(), 0usize);
    for (number, line) in (1usize..).zip(text.split(|byte| *byte == b'\n')) {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
        if line.is_empty() {
            continue;
        }
        // A long line is quoted by its beginning.
        let word = String::from_utf8_lossy(&line[..line.len().min(64)]);
        match network(&word) {
            Ok(net) => found.push(net),
            Err(why) if wrong.len() < MAX_TOLD => wrong.push(format!("{number}: {why}")),
            Err(_) => more += 1,
        }
    }
    if more > 0 {
        wrong.push(format!("and {more} more lines are wrong"));
    }
    (found, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ports_are_one_many_or_all() {
        let read = |text: &str| service_address(text).map(|a| a.to_string());
        for good in ["192.0.2.1:53", "192.0.2.1:1000-2000", "192.0.2.1:*", "[2001:db8::1]:1-65535", "[2001:db8::1]:*"] {
            assert_eq!(read(good).unwrap(), good);
        }
        assert_eq!(read("[::ffff:192.0.2.1]:5-5").unwrap(), "192.0.2.1:5");
        for bad in [
            "192.0.2.1:2-1",
            "192.0.2.1:0-5",
            "192.0.2.1:1-65536",
            "192.0.2.1:-5",
            "192.0.2.1:5-",
            "1-2",
            "192.0.2.1:*-5",
            "2001:db8::1:1-2",
            "224.0.0.1:1-2",
        ] {
            assert!(service_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_have_no_host_bits() {
        let read = |text: &str| prefix(text).map(|net| net.to_string());
        assert_eq!(read("192.0.2.7").unwrap(), "192.0.2.7/32");
        assert_eq!(read("2001:db8::/32").unwrap(), "2001:db8::/32");
        assert_eq!(read("::ffff:192.0.2.0/120").unwrap(), "192.0.2.0/24");
        assert!(read("192.0.2.7/24").unwrap_err().contains("\"192.0.2.0/24\""));
        assert!(read("192.0.2.7:80").unwrap_err().contains("port"));
        for bad in ["", "192.0.2.0/33", "2001:db8::/129", "x", "192.0.2/24"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_names_its_bad_lines() {
        let (found, wrong) = prefix_file(b"# list\n192.0.2.0/24 # theirs\r\n\n  2001:db8::1\nfoo\n\xff\n10.0.0.1/8");
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.0/24", "2001:db8::1/128"]);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[0].starts_with("5: \"foo\"") && wrong[2].contains("\"10.0.0.0/8\""), "{wrong:?}");
        let (_, wrong) = prefix_file(&b"x\n".repeat(50));
        assert_eq!((wrong.len(), wrong[MAX_TOLD].as_str()), (MAX_TOLD + 1, "and 40 more lines are wrong"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(ip: IpAddr, first in 1u16.., more: u16, length in 0u8..=128) {
            let ip = ip.to_canonical();
            let last = first.saturating_add(more);
            let written = ServiceAddress { address: ip, ports: Ports::Range(first, last) };
            if let Ok(read) = service_address(&written.to_string()) {
                prop_assert_eq!(read, written);
            }
            let net = canonical(IpNet::new(ip, length.min(if ip.is_ipv4() { 32 } else { 128 })).unwrap().trunc());
            prop_assert_eq!(network(&net.to_string()).unwrap(), net);
        }

        #[test]
        fn no_text_makes_them_panic(text in "\\PC{0,40}") {
            let _ = (service_address(&text), network(&text), prefix_file(text.as_bytes()));
        }
    }
}
