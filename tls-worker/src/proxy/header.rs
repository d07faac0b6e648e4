//! A PROXY header out of the first bytes of a connection, however they are cut. What it frames is read here, so that the
//! bounds are ours; what is in the frame, by the `ppp` crate.

use ppp::{v1, v2};
use std::net::SocketAddr;

/// How a header of version 1 begins.
const TEXT: &[u8] = b"PROXY ";
/// Longest line of version 1, with its CRLF (2.1).
const LONGEST_LINE: usize = 107;
/// Signature, version and command, family, length (2.2).
const FIXED: usize = 16;

/// What the bytes so far are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// They may become a header.
    NeedMore,
    /// They begin otherwise than a header does.
    None,
    /// A header, and how long it is.
    Header(Told, usize),
    /// They begin as a header does, and are none.
    Wrong(ProxyFault),
}

/// What a header tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The connection is the proxy's own, or of a kind that has no such addresses: its own ends count.
    Local,
    /// The client, and where it connected to.
    Proxied {
        /// Where the client is.
        client: SocketAddr,
        /// Where it connected to.
        service: SocketAddr,
    },
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyFault {
    /// It is longer than the bound.
    TooLong,
    /// It is not what the protocol says.
    Malformed,
}

/// Look at the first bytes of a connection; `max`: longest header of version 2.
pub fn read(bytes: &[u8], max: usize) -> Read {
    if begins(bytes, v2::PROTOCOL_PREFIX) {
        return binary(bytes, max);
    }
    if begins(bytes, TEXT) {
        return line(bytes);
    }
    Read::None
}

/// Whether one of the two is the beginning of the other.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    let n = bytes.len().min(with.len());
    bytes[..n] == with[..n]
}

fn binary(bytes: &[u8], max: usize) -> Read {
    let Some(length) = bytes.get(FIXED - 2..FIXED) else { return Read::NeedMore };
    let whole = FIXED + usize::from(u16::from_be_bytes([length[0], length[1]]));
    if whole > max.max(FIXED) {
        return Read::Wrong(ProxyFault::TooLong);
    }
    let Some(whole) = bytes.get(..whole) else { return Read::NeedMore };
    let Ok(header) = v2::Header::try_from(whole) else { return Read::Wrong(ProxyFault::Malformed) };
    let told = match (header.command, header.protocol, header.addresses) {
        (v2::Command::Proxy, v2::Protocol::Stream, v2::Addresses::IPv4(ends)) => {
            proxied((ends.source_address, ends.source_port), (ends.destination_address, ends.destination_port))
        }
        (v2::Command::Proxy, v2::Protocol::Stream, v2::Addresses::IPv6(ends)) => {
            proxied((ends.source_address, ends.source_port), (ends.destination_address, ends.destination_port))
        }
        _ => Told::Local,
    };
    Read::Header(told, whole.len())
}

fn line(bytes: &[u8]) -> Read {
    let within = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
        return if within.len() < LONGEST_LINE { Read::NeedMore } else { Read::Wrong(ProxyFault::TooLong) };
    };
    let malformed = Read::Wrong(ProxyFault::Malformed);
    let Some(text) = within[..end].strip_suffix(b"\r") else { return malformed };
    // What follows that word is to be ignored, whatever it is.
    let told = match text.strip_prefix(b"PROXY UNKNOWN") {
        Some([] | [b' ', ..]) => Told::Local,
        _ => match v1::Header::try_from(&within[..=end]).map(|header| header.addresses) {
            Ok(v1::Addresses::Tcp4(ends)) => {
                proxied((ends.source_address, ends.source_port), (ends.destination_address, ends.destination_port))
            }
            Ok(v1::Addresses::Tcp6(ends)) => {
                proxied((ends.source_address, ends.source_port), (ends.destination_address, ends.destination_port))
            }
            _ => return malformed,
        },
    };
    Read::Header(told, end + 1)
}

fn proxied(client: impl Into<SocketAddr>, service: impl Into<SocketAddr>) -> Told {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    Told::Proxied { client: canonical(client.into()), service: canonical(service.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: usize = 512;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[0x20 | command, family], &length, rest].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x67, 1, 187];

    fn told(client: &str, service: &str) -> Told {
        Told::Proxied { client: client.parse().unwrap(), service: service.parse().unwrap() }
    }

    #[test]
    fn headers_of_both_versions_are_read_and_end_where_they_say() {
        let v4 = told("192.0.2.1:4711", "198.51.100.2:443");
        let mut v6 = [0; 36];
        (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 80, 81);
        let tlvs = [&V4[..], &[0xEE, 0, 3, 1, 2, 3], &[0xFF, 0xFF]].concat();
        for (bytes, want) in [
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n".to_vec(), v4),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n".to_vec(), told("[2001:db8::1]:1", "[2001:db8::2]:2")),
            (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 4711 443\r\n".to_vec(), v4),
            (b"PROXY UNKNOWN\r\n".to_vec(), Told::Local),
            (b"PROXY UNKNOWN a b c d e f g h\r\n".to_vec(), Told::Local),
            (v2(1, 0x11, &V4), v4),
            // TLVs, the last of them cut: nobody reads them.
            (v2(1, 0x11, &tlvs), v4),
            (v2(1, 0x21, &v6), told("[::1]:80", "[::2]:81")),
            (v2(0, 0x11, &V4), Told::Local),
            (v2(0, 0x00, &[]), Told::Local),
            (v2(1, 0x00, b"what nobody knows"), Told::Local),
            (v2(1, 0x12, &V4), Told::Local),
            (v2(1, 0x31, &[7; 216]), Told::Local),
        ] {
            let length = bytes.len();
            assert_eq!(read(&[&bytes[..], b"GET / HTTP/1.1"].concat(), MAX), Read::Header(want, length), "{bytes:?}");
            for cut in 0..length {
                assert_eq!(read(&bytes[..cut], MAX), Read::NeedMore, "{cut} bytes of {bytes:?}");
            }
        }
    }

    #[test]
    fn what_is_none_is_told_from_what_is_wrong() {
        let (none, malformed) = (Read::None, Read::Wrong(ProxyFault::Malformed));
        let too_long = Read::Wrong(ProxyFault::TooLong);
        for (bytes, want) in [
            (b"POST / HTTP/1.1\r\n".to_vec(), none),
            (b"PROXIED / HTTP/1.1\r\n".to_vec(), none),
            (b"proxy TCP4 ".to_vec(), none),
            (vec![22, 3, 1, 0, 1], none),
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\n".to_vec(), malformed),
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711\r\n".to_vec(), malformed),
            (b"PROXY TCP4 192.0.2.1 198.51.100.2 04711 443\r\n".to_vec(), malformed),
            (b"PROXY TCP4 2001:db8::1 198.51.100.2 1 2\r\n".to_vec(), malformed),
            (b"PROXY UNKNOWNX\r\n".to_vec(), malformed),
            (b"PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n".to_vec(), malformed),
            (b"PROXY TCP4 \xFF 198.51.100.2 1 2\r\n".to_vec(), malformed),
            ([&b"PROXY TCP4 "[..], &[b'1'; 107]].concat(), too_long),
            (v2(2, 0x11, &V4), malformed),
            (v2(1, 0x11, &V4[..11]), malformed),
            (v2(1, 0x41, &V4), malformed),
            (v2(1, 0x11, &[0; MAX]), too_long),
            ([v2::PROTOCOL_PREFIX, &[0x11, 0x11, 0, 12], &V4].concat(), malformed),
        ] {
            assert_eq!(read(&bytes, MAX), want, "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_changes_nothing(
            kind in 0usize..3,
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let head: &[u8] = [&b""[..], TEXT, v2::PROTOCOL_PREFIX][kind];
            let bytes = [head, &bytes].concat();
            let whole = read(&bytes, MAX);
            for cut in 0..bytes.len() {
                let part = read(&bytes[..cut], MAX);
                prop_assert!(part == Read::NeedMore || part == whole);
                if let Read::Header(_, length) = part {
                    prop_assert!(length <= cut);
                }
            }
        }
    }
}
