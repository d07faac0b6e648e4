//! ClientHellos of rustls and hand-made ones, cut in every way.

use super::*;
use crate::api::{Protocol, UpstreamTls};
use crate::tls::upstream_identity;
use proptest::prelude::*;

const MAX: usize = 16 << 10;

/// What rustls sends, one record; `pq`: with X25519MLKEM768, so over a kilobyte.
fn by_rustls(name: &str, alpn: &[&str], pq: bool) -> Vec<u8> {
    let groups = if pq { vec!["X25519MLKEM768".into(), "x25519".into()] } else { vec!["x25519".into()] };
    let protocol = Protocol { groups, ..Protocol::default() };
    let alpn = alpn.iter().map(|p| p.to_string()).collect();
    let config = upstream_identity(&UpstreamTls { protocol, alpn, ..UpstreamTls::default() }).unwrap();
    let name = rustls_pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(config.for_thread().streams, name).unwrap();
    let mut out = Vec::new();
    client.write_tls(&mut out).unwrap();
    out
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &(content.len() as u16).to_be_bytes(), content].concat()
}

fn sni(name: &[u8]) -> Vec<u8> {
    let entry = [&[0][..], &(name.len() as u16).to_be_bytes(), name].concat();
    extension(0, &[&(entry.len() as u16).to_be_bytes()[..], &entry].concat())
}

fn alpn(names: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = names.iter().flat_map(|n| [&[n.len() as u8][..], n].concat()).collect();
    extension(16, &[&(list.len() as u16).to_be_bytes()[..], &list].concat())
}

/// The message, its header included. `extensions` none: the field is not there at all, as before TLS 1.2.
fn message(version: u16, extensions: Option<&[Vec<u8>]>) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    body.extend([0, 0, 4, 0x0a, 0x0a, 0x13, 0x01, 1, 0]);
    if let Some(extensions) = extensions {
        let all = extensions.concat();
        body.extend((all.len() as u16).to_be_bytes());
        body.extend(all);
    }
    let mut message = vec![1];
    message.extend(&(body.len() as u32).to_be_bytes()[1..]);
    message.extend(body);
    message
}

/// The message in records of these lengths; the last takes the rest.
fn records(message: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut left = message;
    for length in lengths.iter().copied().chain([usize::MAX]) {
        let (part, rest) = left.split_at(length.min(left.len()));
        if !part.is_empty() {
            out.extend([22, 3, 1]);
            out.extend((part.len() as u16).to_be_bytes());
            out.extend(part);
        }
        left = rest;
    }
    out
}

fn read(extensions: &[Vec<u8>]) -> HelloStep {
    client_hello(&records(&message(0x303, Some(extensions)), &[]), MAX)
}

fn hello(step: HelloStep) -> ClientHello {
    match step {
        HelloStep::Hello(hello) => hello,
        other => panic!("{other:?}"),
    }
}

#[test]
fn name_and_protocols_are_read() {
    for pq in [false, true] {
        let bytes = by_rustls("A.Test", &["h2", "http/1.1"], pq);
        assert_eq!(bytes.len() > 1000, pq);
        let got = hello(client_hello(&bytes, MAX));
        assert_eq!(got.sni.as_deref(), Some("a.test"));
        assert_eq!(got.alpn, [Box::from(&b"h2"[..]), Box::from(&b"http/1.1"[..])]);
        assert_eq!(got.version, 0x303);
    }
    assert_eq!(hello(client_hello(&by_rustls("192.0.2.1", &[], false), MAX)).sni, None);
}

#[test]
fn old_clients_without_extensions_are_read() {
    for version in [0x300, 0x301, 0x302, 0x303] {
        let got = hello(client_hello(&records(&message(version, None), &[]), MAX));
        assert_eq!(got, ClientHello { version, ..ClientHello::default() });
    }
}

#[test]
fn grease_and_an_encrypted_hello_beside_the_name_do_not_matter() {
    let (grease, outer) = (extension(0x0a0a, &[]), extension(0xfe0d, &[0xab; 300]));
    let got = hello(read(&[grease, outer, sni(b"outer.test"), alpn(&[b"\x0a\x0a", b"h2"]), extension(0xfafa, &[0])]));
    assert_eq!(got.sni.as_deref(), Some("outer.test"));
    assert_eq!(got.alpn.len(), 2);
}

#[test]
fn only_a_host_name_is_a_name() {
    for (name, want) in [
        (&b"a_b.x-1.test"[..], Some(Some("a_b.x-1.test"))),
        (b"UPPER.test", Some(Some("upper.test"))),
        (b"localhost", Some(Some("localhost"))),
        (b"192.0.2.1", Some(None)),
        (b"2001:db8::1", Some(None)),
        (b"", None),
        (b"a.test.", None),
        (b".test", None),
        (b"a..test", None),
        (b"a.test/x", None),
        (b"a test", None),
        (b"a.test\0", None),
        ("\u{fc}.test".as_bytes(), None),
        (&[b'a'; 64], None),
    ] {
        let got = match read(&[sni(name)]) {
            HelloStep::Hello(hello) => Some(hello.sni),
            other => Some(other).filter(|o| *o != HelloStep::Malformed).map(|o| panic!("{o:?}")),
        };
        assert_eq!(got.as_ref().map(|n| n.as_deref()), want, "{name:?}");
    }
}

#[test]
fn what_is_said_twice_or_wrongly_is_malformed() {
    let two_names = [0, 0, 18, 0, 16, 0, 0, 5, b'a', b'.', b't', b's', b't', 0, 0, 5, b'b', b'.', b't', b's', b't'];
    let mut cut = sni(b"a.test");
    cut.pop();
    for extensions in [
        vec![sni(b"a.test"), sni(b"b.test")],
        vec![alpn(&[b"h2"]), alpn(&[b"h2"])],
        vec![[&[0][..], &two_names].concat()],
        vec![extension(0, &[0, 0])],
        vec![extension(0, &[])],
        vec![extension(16, &[0, 0])],
        vec![extension(16, &[0, 1, 0])],
        vec![extension(16, &[0, 3, 9, b'h', b'2'])],
        vec![cut],
        vec![vec![0, 16, 0]],
    ] {
        assert_eq!(read(&extensions), HelloStep::Malformed, "{extensions:?}");
    }
    let mut short = message(0x303, Some(&[sni(b"a.test")]));
    let at = short.len() - 16;
    short[at] ^= 1;
    assert_eq!(client_hello(&records(&short, &[]), MAX), HelloStep::Malformed, "extensions of another length");
}

#[test]
fn what_is_no_clienthello_is_told_apart() {
    for (bytes, want) in [
        (&b"GET / HTTP/1.1\r\n"[..], HelloStep::PlainHttp),
        (b"\0", HelloStep::NotTls),
        (&[0x80, 0x2e, 1], HelloStep::NotTls),
        (&[22, 2], HelloStep::NotTls),
        (&[22, 3, 1, 0, 0], HelloStep::Malformed),
        (&[22, 3, 1, 0x40, 1], HelloStep::Malformed),
        (&[22, 3, 1, 0, 1, 2], HelloStep::Malformed),
        (&[22, 3, 1, 0, 1, 1, 21], HelloStep::Malformed),
        (&[22, 3, 1, 0, 1, 1, 22, 4], HelloStep::Malformed),
        (&[22, 3, 1, 0, 4, 1, 1, 0, 0], HelloStep::TooLong),
        (&[], HelloStep::NeedMore),
        (&[22, 3], HelloStep::NeedMore),
    ] {
        assert_eq!(client_hello(bytes, MAX), want, "{bytes:?}");
    }
}

#[test]
fn the_bound_is_of_all_bytes() {
    let message = message(0x303, Some(&[sni(b"a.test"), extension(21, &[0; 400])]));
    let one = records(&message, &[]);
    assert!(matches!(client_hello(&one, one.len()), HelloStep::Hello(_)));
    assert_eq!(client_hello(&one, one.len() - 1), HelloStep::TooLong);
    let many = records(&message, &vec![1; message.len()]);
    assert_eq!(many.len(), 6 * message.len());
    assert!(matches!(client_hello(&many, many.len()), HelloStep::Hello(_)));
    assert_eq!(client_hello(&many, many.len() - 1), HelloStep::TooLong);
}

proptest! {
    #[test]
    fn any_split_over_records_and_packets_reads_the_same(
        lengths in prop::collection::vec(1usize..200, 0..12),
        packets in prop::collection::vec(1usize..90, 0..40),
        after in prop::collection::vec(any::<u8>(), 0..20),
        pq: bool,
    ) {
        let whole = by_rustls("name.test", &["h2"], pq);
        let want = client_hello(&whole, MAX);
        let mut bytes = records(&whole[5..], &lengths);
        let end = bytes.len();
        bytes.extend(after);
        let mut reader = HelloReader::new(MAX);
        let mut left = &bytes[..];
        let mut step = HelloStep::NeedMore;
        for n in packets.into_iter().chain(std::iter::repeat(7)) {
            let (part, rest) = left.split_at(n.min(left.len()));
            prop_assert!(!part.is_empty());
            let before = bytes.len() - left.len();
            step = reader.feed(part);
            left = rest;
            prop_assert_eq!(step == HelloStep::NeedMore, before + part.len() < end);
            if step != HelloStep::NeedMore {
                break;
            }
        }
        prop_assert_eq!(step, want);
    }

    #[test]
    fn byte_by_byte_is_as_good_as_at_once(bytes in prop::collection::vec(any::<u8>(), 0..300), valid_head: bool) {
        let bytes = if valid_head { [&[22, 3, 1, 1, 0, 1, 0, 0, 0xfc][..], &bytes].concat() } else { bytes };
        let at_once = client_hello(&bytes, 290);
        let mut reader = HelloReader::new(290);
        let steps = bytes.iter().map(|b| reader.feed(&[*b]));
        let one_by_one = steps.into_iter().find(|s| *s != HelloStep::NeedMore).unwrap_or(HelloStep::NeedMore);
        prop_assert_eq!(at_once, one_by_one);
    }

    #[test]
    fn a_changed_hello_makes_no_panic(at: usize, to: u8) {
        let mut bytes = by_rustls("name.test", &["h2"], false);
        let at = at % bytes.len();
        bytes[at] = to;
        client_hello(&bytes, MAX);
    }
}
