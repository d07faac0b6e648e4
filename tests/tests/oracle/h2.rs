//! HTTP/2, frame by frame: requests that cannot be put into HTTP/1.1 as they are, and clients that do too much of
//! something.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lb_tests::backend::Backend;
use lb_tests::harness::{Test, plain};

use crate::http1::KEYS;
use crate::recorder::Recorder;
use crate::site::Site;

// RFC 9113, 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const CALM: u32 = 11;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        plain("requests_of_http2_are_refused_or_forwarded_in_one_way", one_way),
        plain("too_many_frames_of_a_kind_end_an_http2_connection", floods),
        plain("what_a_real_client_does_ends_nothing", moderate),
        plain("a_stream_whose_window_stays_shut_is_reset", stalled),
    ]
}

type Fields<'a> = &'a [(&'a str, &'a str)];

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The backend sees this.
    Served(&'static str),
    /// This code, by the index of HPACK's static table; 0: any that is not there.
    Answered(u8),
    /// RST_STREAM or GOAWAY.
    Reset,
}

const OK: u8 = 0x88;
const BAD_REQUEST: u8 = 0x8c;
const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":authority", "o"), (":path", "/")];

/// [`GET`] with these fields behind it, or in the place of those of the same name.
fn with(fields: Fields<'_>) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = GET.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    for (name, value) in fields {
        match all.iter_mut().find(|(n, _)| n == name && n.starts_with(':')) {
            Some(place) => place.1 = value.to_string(),
            None => all.push((name.to_string(), value.to_string())),
        }
    }
    // An empty pseudo-header stands for none.
    all.retain(|(name, value)| !(name.starts_with(':') && value.is_empty()));
    all
}

fn one_way() -> Result<()> {
    use Fate::{Answered, Reset, Served};
    let bad = Answered(BAD_REQUEST);
    let long = "/".to_owned() + &"x".repeat(1100);
    let longest = [(":path", long.as_str())];
    let vectors: Vec<(Fields<'_>, Option<&str>, Fate)> = vec![
        (&[], None, Served("GET /")),
        (&[("host", "o")], None, Served("GET /")),
        (&[(":authority", ""), ("host", "o")], None, Served("GET /")),
        (&[(":method", "POST")], Some("abc"), Served("POST / abc")),
        (&[(":method", "POST"), ("content-length", "3")], Some("abc"), Served("POST / abc")),
        (&[("te", "trailers")], None, Served("GET /")),
        (&[("cookie", "a=1"), ("cookie", "b=2")], None, Served("GET /")),
        (&[(":path", "/a/%2e%2e/b")], None, Served("GET /b")),
        (&[(":path", "//o/a")], None, Served("GET /o/a")),
        (&[(":path", "/a?b=/../c")], None, Served("GET /a?b=/../c")),
        // A body that looks like a request stays one: h2.CL and h2.TE without the disagreement.
        (&[(":method", "POST")], Some("GET /in HTTP/1.1\r\n\r\n"), Served("POST / GET /in HTTP/1.1\r\n\r\n")),
        (&[(":method", "POST")], Some("0\r\n\r\nGET /in HTTP/1.1\r\n"), Served("POST / 0\r\n\r\nGET /in HTTP/1.1\r\n")),
        // Who is asked.
        (&[(":authority", "")], None, bad),
        (&[("host", "p")], None, bad),
        (&[("host", "o"), ("host", "o")], None, bad),
        (&[(":authority", "u@o")], None, bad),
        (&[(":authority", "o:x")], None, bad),
        (&[(":authority", "o/p")], None, Reset),
        // What is asked.
        (&[(":path", "")], None, Reset),
        (&[(":path", "a")], None, Reset),
        (&[(":path", "*")], None, bad),
        (&[(":path", "http://o/")], None, Reset),
        (&[(":path", "/..")], None, bad),
        (&[(":path", "/a/..%2fb")], None, bad),
        (&[(":path", "/%00")], None, bad),
        (&[(":path", "/\u{e4}")], None, bad),
        (&[(":path", "/a b")], None, Reset),
        (&[(":path", "/a HTTP/1.1\r\nX: y")], None, Reset),
        (&longest, None, Answered(0)),
        (&[(":method", "")], None, Reset),
        (&[(":method", "GET / HTTP/1.1\r\nX:")], None, Reset),
        (&[(":method", "G T")], None, Reset),
        (&[(":method", "TRACE")], None, Answered(0)),
        (&[(":scheme", "")], None, Reset),
        (&[("x", "y"), (":path2", "/")], None, Reset),
        (&[("x", "y"), (":method2", "/")], None, Reset),
        // h2.CL.
        (&[(":method", "POST"), ("content-length", "2")], Some("abc"), Reset),
        (&[(":method", "POST"), ("content-length", "4")], Some("abc"), Reset),
        (&[(":method", "POST"), ("content-length", "0")], Some("abc"), Reset),
        (&[(":method", "POST"), ("content-length", "3"), ("content-length", "4")], Some("abc"), Reset),
        (&[(":method", "POST"), ("content-length", "+3")], Some("abc"), Reset),
        (&[(":method", "POST"), ("content-length", "3, 3")], Some("abc"), Reset),
        (&[(":method", "POST"), ("content-length", "x")], Some("abc"), Reset),
        (&[("content-length", "5")], None, Reset),
        // h2.TE, and what else belongs to a connection.
        (&[(":method", "POST"), ("transfer-encoding", "chunked")], Some("0\r\n\r\n"), Reset),
        (&[("connection", "close")], None, Reset),
        (&[("connection", "transfer-encoding")], None, Reset),
        (&[("keep-alive", "5")], None, Reset),
        (&[("proxy-connection", "x")], None, Reset),
        (&[("upgrade", "h2c")], None, Reset),
        (&[("te", "chunked")], None, Reset),
        // Injection.
        (&[("x", "a\r\nY: b")], None, Reset),
        (&[("x", "a\nTransfer-Encoding: chunked")], None, Reset),
        (&[("x", "a\rb")], None, Reset),
        (&[("x", "a\0b")], None, Reset),
        (&[("x\r\ny", "a")], None, Reset),
        (&[("x: y\r\nz", "a")], None, Reset),
        (&[("x y", "a")], None, Reset),
        (&[("x:", "a")], None, Reset),
        (&[("X", "a")], None, Reset),
        (&[("Content-Length", "3")], None, Reset),
        (&[("", "a")], None, Reset),
    ];
    let recorder = Recorder::start()?;
    let site = Site::new(recorder.address, KEYS)?;
    let mut failed = Vec::new();
    for (fields, body, fate) in vectors {
        let mut client = Client::begin(&site, &[])?;
        client.request(1, &with(fields), body)?;
        let got = client.fate(1)?;
        let seen = recorder.take();
        let good = match fate {
            Served(request) => got == Answered(OK) && seen == [request],
            other => got == other && seen.is_empty(),
        };
        if !good {
            failed.push(format!("{fields:?} {body:?}: {got:?}, {seen:?}, expected {fate:?}"));
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    ensure!(recorder.wrong().is_empty(), "{:?}", recorder.wrong());
    Ok(())
}

/// `frames(n)`: the nth of what there will be too much of.
type Flood<'a> = (&'a str, usize, &'a dyn Fn(u32) -> Vec<u8>);

fn floods() -> Result<()> {
    let backend = Backend::start_here("app")?;
    let site = Site::new(backend.address, "")?;
    let open = frame(HEADERS, END_HEADERS, 1, &block(&with(&[(":method", "POST")])));
    let block_of_get = block(&with(&[]));
    let floods: [Flood<'_>; 8] = [
        ("ping", 400, &|_| frame(PING, 0, 0, &[0; 8])),
        ("settings", 60, &|_| frame(SETTINGS, 0, 0, &[])),
        ("priority", 900, &|n| frame(PRIORITY, 0, 2 * n + 3, &[0, 0, 0, 0, 16])),
        ("window_update", 5000, &|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown", 400, &|_| frame(0x55, 0, 0, b"x")),
        ("empty_data", 300, &|n| match n {
            0 => open.clone(),
            _ => frame(DATA, 0, 1, &[]),
        }),
        // Rapid reset.
        ("reset", 600, &|n| {
            let stream = 2 * n + 1;
            [
                frame(HEADERS, END_HEADERS | END_STREAM, stream, &block_of_get),
                frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
            ]
            .concat()
        }),
        ("continuation", 400, &|n| match n {
            0 => frame(HEADERS, 0, 1, &block_of_get),
            _ => frame(CONTINUATION, 0, 1, &block(&[("x".into(), "y".into())])),
        }),
    ];
    for (kind, count, make) in floods {
        let mut client = Client::begin(&site, &[])?;
        let bytes: Vec<u8> = (0..count as u32).flat_map(make).collect();
        // In pieces: some of it is answered before the rest is there.
        for part in bytes.chunks(1500) {
            if client.stream.write_all(part).is_err() {
                break;
            }
        }
        let code = client.goaway().with_context(|| kind.to_owned())?;
        ensure!(code == CALM, "{kind}: GOAWAY with {code}");
        ensure!(client.is_closed(), "{kind}: the connection stays open");
    }
    // Some the library counts before the edge does.
    let scrape = lb_tests::wait::wait_for("every flood to be counted", lb_tests::wait::PATIENCE, || {
        let scrape = site.edge.metrics().ok()?;
        (scrape.sum("bailey_http2_abuse_total", &[]) == floods_count()).then_some(scrape)
    })?;
    for kind in ["ping", "settings", "priority", "window_update", "unknown"] {
        ensure!(scrape.sum("bailey_http2_abuse_total", &[("kind", kind)]) == 1.0, "{kind}");
    }
    // Others are served meanwhile.
    let mut client = Client::begin(&site, &[])?;
    client.request(1, &with(&[]), None)?;
    ensure!(client.fate(1)? == Fate::Answered(OK));
    Ok(())
}

fn floods_count() -> f64 {
    8.0
}

/// Below the limits: pings, settings, windows, cancelled requests.
fn moderate() -> Result<()> {
    let backend = Backend::start_here("app")?;
    let site = Site::new(backend.address, "")?;
    let mut client = Client::begin(&site, &[])?;
    for n in 0..10u32 {
        let mut bytes = frame(PING, 0, 0, &[1; 8]);
        bytes.extend(frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]));
        bytes.extend(frame(PRIORITY, 0, 2 * n + 101, &[0, 0, 0, 0, 16]));
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &block(&with(&[]))));
        bytes.extend(frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8]));
        client.stream.write_all(&bytes)?;
    }
    client.request(201, &with(&[]), None)?;
    ensure!(client.fate(201)? == Fate::Answered(OK));
    Ok(())
}

fn stalled() -> Result<()> {
    let backend = Backend::start_here("app")?;
    let site = Site::new(backend.address, "[service.web.http.h2]\nstall_timeout = \"1s\"\n")?;
    // SETTINGS_INITIAL_WINDOW_SIZE of nothing.
    let mut client = Client::begin(&site, &[0, 4, 0, 0, 0, 0])?;
    client.request(1, &with(&[(":path", "/?size=1000000")]), None)?;
    let began = Instant::now();
    loop {
        // The connection is busy all the while.
        client.stream.write_all(&frame(PING, 0, 0, &[2; 8]))?;
        match client.next()? {
            Some((RST_STREAM, _, 1, _)) => break,
            Some((PING, ..)) => std::thread::sleep(Duration::from_millis(50)),
            None => bail!("the connection ended"),
            Some(_) => {}
        }
        ensure!(began.elapsed() < Duration::from_secs(15), "nobody resets the stream");
    }
    site.counts("bailey_http2_abuse_total", &[("kind", "stall")], 1.0)?;
    // Its window opens for the next one.
    client.stream.write_all(&frame(SETTINGS, 0, 0, &[0, 4, 0, 15, 255, 255]))?;
    client.request(3, &with(&[]), None)?;
    ensure!(client.fate(3)? == Fate::Answered(OK));
    Ok(())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// RFC 7541, 6.2.2: literals without indexing, names and values as they are.
fn block(fields: &[(String, String)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            match text.len() {
                n @ 0..127 => bytes.push(n as u8),
                n => {
                    bytes.push(127);
                    let mut rest = n - 127;
                    while rest >= 128 {
                        bytes.push((rest % 128 + 128) as u8);
                        rest /= 128;
                    }
                    bytes.push(rest as u8);
                }
            }
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

type Frame = (u8, u8, u32, Vec<u8>);

struct Client {
    stream: TcpStream,
}

impl Client {
    /// With these settings, as they are on the wire.
    fn begin(site: &Site, settings: &[u8]) -> Result<Self> {
        let mut stream = site.connect()?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        stream.write_all(&frame(SETTINGS, 0, 0, settings))?;
        Ok(Client { stream })
    }

    fn request(&mut self, stream: u32, fields: &[(String, String)], body: Option<&str>) -> Result<()> {
        let end = if body.is_none() { END_STREAM } else { 0 };
        let mut bytes = frame(HEADERS, END_HEADERS | end, stream, &block(fields));
        if let Some(body) = body {
            bytes.extend(frame(DATA, END_STREAM, stream, body.as_bytes()));
        }
        Ok(self.stream.write_all(&bytes)?)
    }

    /// The next frame. None: the connection ended.
    fn next(&mut self) -> Result<Option<Frame>> {
        let mut head = [0; 9];
        if let Err(error) = self.stream.read_exact(&mut head) {
            ensure!(error.kind() != std::io::ErrorKind::WouldBlock, "nothing comes");
            return Ok(None);
        }
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        if self.stream.read_exact(&mut payload).is_err() {
            return Ok(None);
        }
        Ok(Some((kind, flags, u32::from_be_bytes(id) & 0x7fff_ffff, payload)))
    }

    fn fate(&mut self, stream: u32) -> Result<Fate> {
        loop {
            match self.next()? {
                Some((HEADERS, _, id, payload)) if id == stream => {
                    // The table's size may be told first.
                    let first = payload.iter().find(|byte| **byte >> 5 != 1).copied().unwrap_or(0);
                    return Ok(Fate::Answered(if (0x88..=0x8e).contains(&first) { first } else { 0 }));
                }
                Some((RST_STREAM, _, id, _)) if id == stream => return Ok(Fate::Reset),
                Some((GOAWAY, ..)) | None => return Ok(Fate::Reset),
                Some(_) => {}
            }
        }
    }

    /// Error code of the GOAWAY that comes.
    fn goaway(&mut self) -> Result<u32> {
        loop {
            match self.next()? {
                Some((GOAWAY, _, _, payload)) => {
                    let code = payload.get(4..8).context("a short GOAWAY")?;
                    return Ok(u32::from_be_bytes(code.try_into()?));
                }
                Some(_) => {}
                None => bail!("the connection ended without a GOAWAY"),
            }
        }
    }

    fn is_closed(&mut self) -> bool {
        loop {
            match self.next() {
                Ok(None) => return true,
                Ok(Some(_)) => {}
                Err(_) => return false,
            }
        }
    }
}
