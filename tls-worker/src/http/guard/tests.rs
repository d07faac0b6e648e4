//! What passes the guard, what does not, and that it makes no difference in which portions it came.

use super::*;
use proptest::prelude::*;

const BOUNDS: Bounds = Bounds { header: 512, fields: 8, target: 64 };

/// All of it at once: how many bytes and headers passed, and why no more did.
fn all(bytes: &[u8]) -> (usize, u64, Option<Rejection>) {
    in_portions(bytes, bytes.len())
}

fn in_portions(bytes: &[u8], portion: usize) -> (usize, u64, Option<Rejection>) {
    let mut guard = Guard::new(BOUNDS);
    let (mut passed, mut shown) = (0, 0);
    while shown < bytes.len() {
        shown = (shown + portion.max(1)).min(bytes.len());
        loop {
            let step = guard.feed(&bytes[passed..shown]);
            let (Step::Pass(n) | Step::Waits(n) | Step::Refused(n, _) | Step::Broken(n, _)) = step;
            passed += n;
            match step {
                Step::Pass(_) => break,
                Step::Waits(_) => guard.answered(false),
                Step::Refused(_, reason) | Step::Broken(_, reason) => return (passed, guard.heads(), Some(reason)),
            }
        }
    }
    (passed, guard.heads(), None)
}

#[test]
fn good_requests_pass_whole() {
    for text in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET /x?y=%20 HTTP/1.0\r\nhost:a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \tchunked \r\n\r\n3\r\na\nb\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: Chunked\r\n\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\nx: y\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET HTTP://a/ HTTP/1.1\r\nHost: a\r\nx: \u{e4}\r\ny:\r\n\r\n",
    ] {
        let twice = text.repeat(2);
        assert_eq!(all(twice.as_bytes()), (twice.len(), 2, None), "{text}");
    }
}

#[test]
fn each_fault_has_its_reason_and_nothing_of_it_passes() {
    use Rejection::*;
    let ok = "GET /ok HTTP/1.1\r\nhost: a\r\n\r\n";
    for (text, reason) in [
        ("GET / HTTP/1.1\r\n\r\n", Host),
        ("GET / HTTP/1.1\r\nhost: a\r\nHost: a\r\n\r\n", Host),
        ("GET / HTTP/1.1\nhost: a\r\n\r\n", LineEnd),
        ("GET / HTTP/1.1\r\nhost: a\n\r\n", LineEnd),
        ("GET / HTTP/1.1\r\nhost: a\rb\r\n\r\n", LineEnd),
        ("GET / HTTP/1.1\r\nhost: a\r\r\n\r\n", LineEnd),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n", Fold),
        ("GET / HTTP/1.1\r\n host: a\r\n\r\n", Leading),
        ("GET / HTTP/1.1\r\nhost: a\r\nx\0: y\r\n\r\n", HeaderName),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: y\0\r\n\r\n", Control),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: y\x7f\r\n\r\n", Control),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", SpaceBeforeColon),
        ("GET / HTTP/1.1\r\nhost\t: a\r\n\r\n", SpaceBeforeColon),
        ("GET / HTTP/1.1\r\nhost: a\r\n: y\r\n\r\n", HeaderName),
        ("GET / HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n", HeaderName),
        ("GET / HTTP/1.1\r\nhost: a\r\nnothing\r\n\r\n", HeaderName),
        ("GET /#x HTTP/1.1\r\nhost: a\r\n\r\n", Fragment),
        ("GET x HTTP/1.1\r\nhost: a\r\n\r\n", Target),
        ("GET * HTTP/1.1\r\nhost: a\r\n\r\n", Target),
        ("GET /\x01 HTTP/1.1\r\nhost: a\r\n\r\n", Target),
        ("GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n", Target),
        ("CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n", Method),
        ("G@T / HTTP/1.1\r\nhost: a\r\n\r\n", RequestLine),
        (" GET / HTTP/1.1\r\nhost: a\r\n\r\n", RequestLine),
        ("\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", RequestLine),
        ("GET  / HTTP/1.1\r\nhost: a\r\n\r\n", RequestLine),
        ("GET / HTTP/1.1 \r\nhost: a\r\n\r\n", RequestLine),
        ("GET\t/ HTTP/1.1\r\nhost: a\r\n\r\n", RequestLine),
        ("GET /\r\n\r\n", Version),
        ("GET / HTTP/2.0\r\nhost: a\r\n\r\n", Version),
        ("GET / HTTP/1.2\r\nhost: a\r\n\r\n", Version),
        ("GET / http/1.1\r\nhost: a\r\n\r\n", RequestLine),
        ("\x16\x03\x01\x02", RequestLine),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", TwoFramings),
        ("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", OldChunked),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n", TransferEncoding),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            TransferEncoding,
        ),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n", Control),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\n", ContentLength),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1 \r\ncontent-length: 1\r\n\r\n", ContentLength),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\n", ContentLength),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n\r\n", ContentLength),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9223372036854775808\r\n\r\n", ContentLength),
        (&format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(64)), UriLength),
        (&"x".repeat(300), UriLength),
        (&format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(8)), HeaderCount),
        (&format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "y".repeat(500)), HeaderSize),
        (&format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(500)), HeaderSize),
    ] {
        let after = format!("{ok}{text}{ok}");
        assert_eq!(all(after.as_bytes()), (ok.len(), 1, Some(reason)), "{text:?}");
    }
}

#[test]
fn a_body_breaks_where_it_is_malformed() {
    use Rejection::{Chunk, Fold, HeaderName, LineEnd, Trailer};
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    for (good, bad, reason) in [
        ("", "x\r\n", Chunk),
        ("", "\r\n", Chunk),
        ("1", " \r\na\r\n", Chunk),
        ("", "-1\r\n", Chunk),
        ("0", "x3\r\n", Chunk),
        ("3", "\nabc\r\n", Chunk),
        ("3\r", "abc\r\n", Chunk),
        ("3\r\nabc", "\n0\r\n", Chunk),
        ("3\r\nabc", "0\r\n", Chunk),
        ("3;a", "\nabc\r\n", Chunk),
        ("3;a", "\0\r\nabc\r\n", Chunk),
        ("111111111111111", "1\r\n", Chunk),
        ("0\r\nx: y", "\n", LineEnd),
        ("0\r\nx: y\r", "z\r\n", LineEnd),
        ("0\r\nx: y\r\n z\r", "\n", Fold),
        ("0\r\nx y\r", "\n", HeaderName),
        ("0\r\nContent-Length: 3\r", "\n\r\n", Trailer),
    ] {
        let bytes = [head, good, bad].concat();
        assert_eq!(all(bytes.as_bytes()), (head.len() + good.len(), 1, Some(reason)), "{good:?}{bad:?}");
    }
}

#[test]
fn after_an_upgrade_nothing_is_looked_at_and_without_one_everything() {
    let head = b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    let bytes = [&head[..], b"\x81\x05hello"].concat();
    for (upgraded, then) in [(true, Step::Pass(7)), (false, Step::Refused(0, Rejection::RequestLine))] {
        let mut guard = Guard::new(BOUNDS);
        assert_eq!(guard.feed(&bytes), Step::Waits(head.len()));
        assert!(guard.is_waiting());
        assert_eq!(guard.feed(b"\x81\x05hello"), Step::Waits(0));
        guard.answered(upgraded);
        assert_eq!(guard.feed(b"\x81\x05hello"), then);
    }
}

#[test]
fn a_header_that_comes_byte_by_byte_is_looked_at_once() {
    let bytes = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(400));
    let mut guard = Guard::new(BOUNDS);
    for n in 1..bytes.len() {
        assert_eq!(guard.feed(&bytes.as_bytes()[..n]), Step::Pass(0));
    }
    assert_eq!(guard.feed(bytes.as_bytes()), Step::Pass(bytes.len()));
}

proptest! {
    #[test]
    fn any_portions_give_the_same_verdict(
        parts in proptest::collection::vec(prop_oneof![
            Just("GET / HTTP/1.1\r\nhost: a\r\n"), Just("POST http://a/ HTTP/1.1\r\nhost: a\r\n"), Just("\r\n"),
            Just("content-length: 5\r\n"), Just("transfer-encoding: chunked\r\n"), Just("upgrade: x\r\n"), Just("x: y\r\n"),
            Just("5\r\nhello\r\n"), Just("0\r\n\r\n"), Just("\n"), Just("\r"), Just(" "), Just("hello"), Just("\0"),
        ], 0..16),
        portion in 1..40usize,
    ) {
        let bytes = parts.concat();
        prop_assert_eq!(in_portions(bytes.as_bytes(), portion), all(bytes.as_bytes()));
    }
}
