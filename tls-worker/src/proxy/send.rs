//! The header that a backend gets: who the client is, ahead of its bytes.

use crate::api::ProxyVersion;
use ppp::v1;
use ppp::v2::{Builder, Command, Protocol, Type, Version};
use std::io;
use std::net::SocketAddr;

/// Bits of the TLV `SSL`, 2.2.5: the client came over TLS; it showed a certificate on this connection; in this session.
const CLIENT_SSL: u8 = 1;
const CLIENT_CERT_CONN: u8 = 2;
const CLIENT_CERT_SESS: u8 = 4;

/// What a backend is told.
pub(crate) struct About<'a> {
    /// Where the client is.
    pub(crate) client: SocketAddr,
    /// Where it connected to.
    pub(crate) service: SocketAddr,
    /// Name that it asked for.
    pub(crate) name: Option<&'a str>,
    /// Application protocol that was agreed on.
    pub(crate) alpn: Option<&'a [u8]>,
    /// The TLS that ended here; none: it did not.
    pub(crate) tls: Option<Tls>,
}

/// What a backend is told of TLS.
pub(crate) struct Tls {
    /// `TLSv1.2`, `TLSv1.3`.
    pub(crate) version: &'static str,
    /// Whether the client's certificate is good; none: it showed none.
    pub(crate) verified: Option<bool>,
    /// The session was begun on another connection.
    pub(crate) resumed: bool,
}

impl Tls {
    /// Value of the TLV `SSL`.
    fn value(&self) -> Vec<u8> {
        let shown = match (self.verified, self.resumed) {
            (None, _) => 0,
            (Some(_), true) => CLIENT_CERT_SESS,
            (Some(_), false) => CLIENT_CERT_SESS | CLIENT_CERT_CONN,
        };
        let mut value = vec![CLIENT_SSL | shown];
        // `verify`: 0 where a certificate was verified, anything else where none was.
        value.extend(u32::from(self.verified != Some(true)).to_be_bytes());
        value.push(Type::SSLVersion.into());
        value.extend((self.version.len() as u16).to_be_bytes());
        value.extend(self.version.as_bytes());
        value
    }
}

/// The header. An error: the name or the protocol is longer than the format has room for.
pub(crate) fn header(version: ProxyVersion, about: &About<'_>) -> io::Result<Vec<u8>> {
    let addresses = (canonical(about.client), canonical(about.service));
    match version {
        ProxyVersion::V1 => Ok(v1::Addresses::from(addresses).to_string().into_bytes()),
        ProxyVersion::V2 => binary(addresses, about),
    }
}

fn binary(addresses: (SocketAddr, SocketAddr), about: &About<'_>) -> io::Result<Vec<u8>> {
    let mut builder = Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, addresses);
    if let Some(alpn) = about.alpn {
        builder = builder.write_tlv(Type::ALPN, alpn)?;
    }
    if let Some(name) = about.name {
        builder = builder.write_tlv(Type::Authority, name.as_bytes())?;
    }
    if let Some(tls) = &about.tls {
        builder = builder.write_tlv(Type::SSL, &tls.value())?;
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
            tls: Some(Tls { version: "TLSv1.3", verified: None, resumed: false }),
        };
        let bytes = header(ProxyVersion::V2, &about).unwrap();
        let read = Header::try_from(bytes.as_slice()).unwrap();
        let v4 = IPv4::new([192, 0, 2, 1], [198, 51, 100, 2], 4711, 443);
        assert_eq!(read.addresses, Addresses::IPv4(v4));
        assert_eq!((read.protocol, read.command), (Protocol::Stream, Command::Proxy));
        let tlvs: Vec<_> = read.tlvs().map(|t| t.unwrap()).map(|t| (t.kind, t.value.into_owned())).collect();
        let ssl = [&[1, 0, 0, 0, 1, 0x21, 0, 7][..], b"TLSv1.3"].concat();
        assert_eq!(tlvs, [(1, b"imap".to_vec()), (2, b"a.test".to_vec()), (0x20, ssl)]);
    }

    #[test]
    fn as_text_there_are_the_addresses() {
        for (client, service, text) in [
            ("[::ffff:192.0.2.1]:4711", "198.51.100.2:443", "PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n"),
            ("[2001:db8::1]:1", "[2001:db8::2]:2", "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"),
        ] {
            let (client, service) = (client.parse().unwrap(), service.parse().unwrap());
            let about = About { client, service, name: Some("a.test"), alpn: None, tls: None };
            assert_eq!(header(ProxyVersion::V1, &about).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn a_certificate_is_told_with_what_came_of_it() {
        for (verified, resumed, bits, verify) in
            [(None, true, 1, 1), (Some(true), false, 7, 0), (Some(true), true, 5, 0), (Some(false), false, 7, 1)]
        {
            let value = Tls { version: "TLSv1.2", verified, resumed }.value();
            assert_eq!(value[..5], [bits, 0, 0, 0, verify], "{verified:?} {resumed}");
        }
    }

    #[test]
    fn without_more_to_tell_there_are_the_addresses() {
        let (client, service) = ("[2001:db8::1]:1".parse().unwrap(), "[2001:db8::2]:2".parse().unwrap());
        let bytes = header(ProxyVersion::V2, &About { client, service, name: None, alpn: None, tls: None }).unwrap();
        let read = Header::try_from(bytes.as_slice()).unwrap();
        let ip = |last| std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
        assert_eq!(read.addresses, Addresses::IPv6(IPv6::new(ip(1), ip(2), 1, 2)));
        assert_eq!((read.tlvs().count(), bytes.len()), (0, 16 + 36));
    }
}
