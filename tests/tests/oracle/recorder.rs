//! A backend of plain TCP that reads HTTP/1.1 by a parser of its own, the strictest there is, and writes down each whole
//! request. What is left when its connection ends is no request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};

type Seen = Arc<Mutex<Vec<String>>>;

/// See the module. It ends with the process.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    seen: Seen,
    wrong: Seen,
}

impl Recorder {
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (seen, wrong) = (Seen::default(), Seen::default());
        let recorder = Recorder { address: listener.local_addr()?, seen: seen.clone(), wrong: wrong.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, wrong) = (seen.clone(), wrong.clone());
                std::thread::spawn(move || {
                    if let Err(error) = serve(stream, &seen) {
                        note(&wrong, format!("{error:#}"));
                    }
                });
            }
        });
        Ok(recorder)
    }

    /// Requests since the last time, as method, target and body.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What came to it and was not HTTP as it should be.
    pub(crate) fn wrong(&self) -> Vec<String> {
        std::mem::take(&mut *self.wrong.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn note(to: &Seen, what: String) {
    to.lock().unwrap_or_else(PoisonError::into_inner).push(what);
}

fn serve(stream: TcpStream, seen: &Seen) -> Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = request(&mut reader)? {
        note(seen, request);
        // The edge may be gone already: then it asked for nothing more.
        if writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
            break;
        }
    }
    Ok(())
}

/// The next request. None: the connection ended, perhaps in the middle of one.
fn request(reader: &mut impl BufRead) -> Result<Option<String>> {
    let Some(first) = line(reader)? else { return Ok(None) };
    let words: Vec<&str> = first.split(' ').collect();
    ensure!(words.len() == 3 && words[2] == "HTTP/1.1" && !words[0].is_empty(), "request line {first:?}");
    let (mut hosts, mut length, mut chunked) = (0, None, false);
    loop {
        let Some(field) = line(reader)? else { return Ok(None) };
        if field.is_empty() {
            break;
        }
        let (name, value) = field.split_once(':').with_context(|| format!("field {field:?}"))?;
        ensure!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()), "name {name:?}");
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "content-length" => ensure!(length.replace(value.trim().parse::<usize>()?).is_none(), "two lengths"),
            "transfer-encoding" => {
                ensure!(value.trim() == "chunked" && !chunked, "coding {value:?}");
                chunked = true;
            }
            _ => {}
        }
    }
    ensure!(hosts == 1, "{hosts} hosts");
    ensure!(length.is_none() || !chunked, "two framings");
    let mut body = Vec::new();
    let whole = match length {
        _ if chunked => chunks(reader, &mut body)?,
        Some(length) => data(reader, length, &mut body)?,
        None => true,
    };
    if !whole {
        return Ok(None);
    }
    let body = String::from_utf8_lossy(&body);
    let gap = if body.is_empty() { "" } else { " " };
    Ok(Some(format!("{} {}{gap}{body}", words[0], words[1])))
}

fn chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> Result<bool> {
    loop {
        let Some(size) = line(reader)? else { return Ok(false) };
        let size = usize::from_str_radix(&size, 16).with_context(|| format!("chunk of {size:?}"))?;
        if size == 0 {
            break;
        }
        if !data(reader, size, body)? {
            return Ok(false);
        }
        match line(reader)?.as_deref() {
            Some("") => {}
            None => return Ok(false),
            Some(other) => bail!("after a chunk: {other:?}"),
        }
    }
    loop {
        match line(reader)? {
            None => return Ok(false),
            Some(line) if line.is_empty() => return Ok(true),
            Some(_) => {}
        }
    }
}

fn data(reader: &mut impl BufRead, length: usize, body: &mut Vec<u8>) -> Result<bool> {
    let read = reader.take(length as u64).read_to_end(body);
    Ok(read.is_ok_and(|n| n == length))
}

/// A line without its CR LF. None: there is no whole one any more.
fn line(reader: &mut impl BufRead) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    // A reset is an end.
    if reader.read_until(b'\n', &mut bytes).is_err() || !bytes.ends_with(b"\n") {
        return Ok(None);
    }
    let text = String::from_utf8(bytes)?;
    let text = text.strip_suffix("\r\n").with_context(|| format!("a line ends in LF alone: {text:?}"))?;
    ensure!(!text.contains(['\r', '\0']), "a control character: {text:?}");
    Ok(Some(text.to_owned()))
}
