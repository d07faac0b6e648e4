//! Every vector of HTTP/1.1 in front of the recorder.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result, ensure};
use lb_tests::harness::{Test, plain};

use crate::recorder::Recorder;
use crate::site::Site;
use crate::vectors::{self, Expect};

/// Limits that the vectors know.
pub(crate) const KEYS: &str = "timeouts.header = \"5s\"\n\
    [service.web.http]\nmax_uri = 1024\nmax_headers = 32\nmax_header_size = \"4KiB\"\n";
/// Sent right behind each vector: what is left of it shows here.
pub(crate) const END: &[u8] = b"GET /end HTTP/1.1\r\nHost: o\r\nConnection: close\r\n\r\n";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        plain("bytes_are_refused_or_read_in_one_way", one_way),
        plain("bytes_that_come_one_by_one_are_read_as_at_once", dripping),
    ]
}

fn one_way() -> Result<()> {
    let recorder = Recorder::start()?;
    let site = Site::new(recorder.address, KEYS)?;
    let vectors = vectors::all();
    ensure!(vectors.len() >= 250, "{} vectors", vectors.len());
    let mut reasons: BTreeMap<&str, u32> = BTreeMap::new();
    let mut failed = Vec::new();
    for (bytes, expect) in &vectors {
        let said = site.exchange(&[bytes, END].concat());
        let seen = recorder.take();
        if let Err(error) = said.and_then(|said| judge(expect, &said, &seen)) {
            failed.push(format!("{:?}: {error:#}", String::from_utf8_lossy(bytes)));
        }
        if let Expect::Refused(_, _, reason) | Expect::Broken(_, reason) = expect {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    ensure!(failed.is_empty(), "{} of {}:\n{}", failed.len(), vectors.len(), failed.join("\n"));
    ensure!(recorder.wrong().is_empty(), "{:?}", recorder.wrong());
    for (reason, count) in reasons {
        site.counts("bailey_http_rejected_total", &[("reason", reason)], count.into())?;
    }
    Ok(())
}

fn judge(expect: &Expect, said: &[u8], seen: &[String]) -> Result<()> {
    let codes = codes(said)?;
    let (requests, last): (&[&str], &[u16]) = match expect {
        Expect::Served(requests) => (requests, &[200]),
        Expect::Closed(requests) | Expect::Broken(requests, _) => (requests, &[]),
        Expect::Refused(requests, code, _) => (requests, std::slice::from_ref(code)),
    };
    let end = matches!(expect, Expect::Served(_)).then_some("GET /end");
    let expected: Vec<&str> = requests.iter().copied().chain(end).collect();
    ensure!(seen == expected, "the backend saw {seen:?}, expected are {expected:?}; the client {codes:?}");
    let mut answers: Vec<u16> = requests.iter().map(|_| 200).chain(last.iter().copied()).collect();
    if matches!(expect, Expect::Broken(..)) && codes.len() > answers.len() {
        answers.push(400);
    }
    ensure!(codes == answers, "the client got {codes:?}, expected are {answers:?}");
    Ok(())
}

/// Codes of the answers; what is between them must be their bodies.
fn codes(mut said: &[u8]) -> Result<Vec<u16>> {
    let mut codes = Vec::new();
    while !said.is_empty() {
        let end = said.windows(4).position(|four| four == b"\r\n\r\n").context("an answer without an end")?;
        let head = std::str::from_utf8(&said[..end])?.to_ascii_lowercase();
        let line = head.strip_prefix("http/1.1 ").or_else(|| head.strip_prefix("http/1.0 "));
        let code: u16 = line.and_then(|rest| rest.get(..3)).context("no answer")?.parse()?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let body: usize = length.map_or(Ok(0), str::parse)?;
        said = said.get(end + 4 + body..).context("a body that is cut")?;
        if code >= 200 {
            codes.push(code);
        }
    }
    Ok(codes)
}

/// Some of each table, each byte in a packet of its own.
fn dripping() -> Result<()> {
    let recorder = Recorder::start()?;
    let site = Site::new(recorder.address, KEYS)?;
    for (bytes, expect) in vectors::all().iter().step_by(9).filter(|(bytes, _)| bytes.len() < 200) {
        let mut stream = site.connect()?;
        for byte in [bytes, END].concat() {
            if stream.write_all(&[byte]).is_err() {
                break;
            }
        }
        let mut said = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut said).context("the edge does not close")?;
        judge(expect, &said, &recorder.take()).with_context(|| String::from_utf8_lossy(bytes).into_owned())?;
    }
    ensure!(recorder.wrong().is_empty(), "{:?}", recorder.wrong());
    Ok(())
}
