//! The PROXY protocol's header, version 2 (HAProxy's proxy-protocol.txt): who the client is, ahead of its bytes.

use ppp::v2::{Builder, Command, Protocol, Type, Version};
use std::io;
use std::net::SocketAddr;

/// Bits of the TLV `SSL`, 2.2.5: the client came over TLS.
const CLIENT_SSL: u8 = 1;
/// `verify` of the TLV `SSL`: anything but zero where no certificate of the client was verified.
const NOT_VERIFIED: u32 = 1;

/// What a backend is told.
pub(super) struct About<'a> {
    /// Where the client is.
    pub(super) client: SocketAddr,
    /// Where it connected to.
    pub(super) service: SocketAddr,
    /// Name that it asked for.
    pub(super) name: Option<&'a str>,
    /// Application protocol that was agreed on.
    pub(super) alpn: Option<&'a [u8]>,
    /// Version of the TLS that ended here; none: it did not.
    pub(super) tls: Option<&'static str>,
}

/// The header. An error: the name or the protocol is longer than the format has room for.
pub(super) fn header(about: &About<'_>) -> io::Result<Vec<u8>> {
    let addresses = (canonical(about.client), canonical(about.service));
    let mut builder = Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, addresses);
    if let Some(alpn) = about.alpn {
        builder = builder.write_tlv(Type::ALPN, alpn)?;
    }
    if let Some(name) = about.name {
        builder = builder.write_tlv(Type::Authority, name.as_bytes())?;
    }
    if let Some(version) = about.tls {
        let mut ssl = vec![CLIENT_SSL];
        ssl.extend(NOT_VERIFIED.to_be_bytes());
        ssl.push(Type::SSLVersion.into());
        ssl.extend((version.len() as u16).to_be_bytes());
        ssl.extend(version.as_bytes());
        builder = builder.write_tlv(Type::SSL, &ssl)?;
    }
    builder.build()
}

/// A mapped IPv4 address is an IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ppp::v2::{Addresses, Header, IPv4, IPv6};

    #[test]
    fn a_reader_of_the_format_finds_what_was_told() {
        let about = About {
            client: "[::ffff:192.0.2.1]:4711".parse().unwrap(),
            service: "[::ffff:198.51.100.2]:443".parse().unwrap(),
            name: Some("a.test"),
            alpn: Some(b"imap"),
            tls: Some("TLSv1.3"),
        };
        let bytes = header(&about).unwrap();
        let read = Header::try_from(bytes.as_slice()).unwrap();
        let v4 = IPv4::new([192, 0, 2, 1], [198, 51, 100, 2], 4711, 443);
        assert_eq!(read.addresses, Addresses::IPv4(v4));
        assert_eq!((read.protocol, read.command), (Protocol::Stream, Command::Proxy));
        let tlvs: Vec<_> = read.tlvs().map(|t| t.unwrap()).map(|t| (t.kind, t.value.into_owned())).collect();
        let ssl = [&[1, 0, 0, 0, 1, 0x21, 0, 7][..], b"TLSv1.3"].concat();
        assert_eq!(tlvs, [(1, b"imap".to_vec()), (2, b"a.test".to_vec()), (0x20, ssl)]);
    }

    #[test]
    fn without_more_to_tell_there_are_the_addresses() {
        let (client, service) = ("[2001:db8::1]:1".parse().unwrap(), "[2001:db8::2]:2".parse().unwrap());
        let bytes = header(&About { client, service, name: None, alpn: None, tls: None }).unwrap();
        let read = Header::try_from(bytes.as_slice()).unwrap();
        let ip = |last| std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
        assert_eq!(read.addresses, Addresses::IPv6(IPv6::new(ip(1), ip(2), 1, 2)));
        assert_eq!((read.tlvs().count(), bytes.len()), (0, 16 + 36));
    }
}
