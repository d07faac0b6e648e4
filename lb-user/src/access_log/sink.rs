//! Where the lines of one log go.

use crate::config::{LogTarget, Syslog};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;

/// A file is looked for at its path this often: it may have been moved away without a word.
const LOOK: Duration = Duration::from_secs(1);
/// A target that failed is left alone for so long.
const RETRY: Duration = Duration::from_secs(1);
/// How long syslog may take for a line.
const SYSLOG: Duration = Duration::from_millis(500);
/// Between two words about lines that are lost.
const WARN: Duration = Duration::from_secs(10);
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// See the module.
#[derive(Debug)]
pub(super) struct Sink {
    name: String,
    pub(super) target: LogTarget,
    epoch: Arc<AtomicU64>,
    out: Mutex<Out>,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Out {
    file: Option<Opened>,
    socket: Option<UnixDatagram>,
    /// After a failure.
    not_before: Option<Instant>,
    warned: Option<Instant>,
}

#[derive(Debug)]
struct Opened {
    file: File,
    /// Device and inode.
    place: (u64, u64),
    epoch: u64,
    looked: Instant,
    /// A line was not written whole: the next one begins a line of its own.
    torn: bool,
}

impl Sink {
    pub(super) fn new(name: &str, target: LogTarget, epoch: Arc<AtomicU64>) -> Self {
        Sink { name: name.to_owned(), target, epoch, out: Mutex::default(), lost: AtomicU64::new(0) }
    }

    /// Lines that could not be written.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Write whole lines. Blocks as long as the target does.
    pub(super) fn write(&self, lines: &[u8], count: u64) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let lost = match out.not_before {
            Some(then) if now < then => {
                self.lost.fetch_add(count, Relaxed);
                return;
            }
            _ => match &self.target {
                LogTarget::File(path) => self.to_file(&mut out, path, lines, now).map_err(|error| (error, count)),
                LogTarget::Stdout => {
                    let mut stdout = io::stdout().lock();
                    let written = stdout.write_all(lines).and_then(|()| stdout.flush());
                    written.map_err(|error| (error, count))
                }
                LogTarget::Syslog(syslog) => to_syslog(&mut out, syslog, lines),
            },
        };
        let Err((error, lost)) = lost else {
            out.not_before = None;
            return;
        };
        self.lost.fetch_add(lost, Relaxed);
        out.not_before = Some(Instant::now() + RETRY);
        if out.warned.is_none_or(|then| now.duration_since(then) >= WARN) {
            out.warned = Some(now);
            tracing::warn!(log = self.name, %error, lost = self.lost(), "lines of an access log are lost");
        }
    }

    fn to_file(&self, out: &mut Out, path: &Path, lines: &[u8], now: Instant) -> io::Result<()> {
        let epoch = self.epoch.load(Relaxed);
        if let Some(opened) = &mut out.file {
            let mut moved = opened.epoch != epoch;
            if !moved && now.duration_since(opened.looked) >= LOOK {
                opened.looked = now;
                moved = std::fs::metadata(path).map_or(true, |meta| (meta.dev(), meta.ino()) != opened.place);
            }
            if moved {
                out.file = None;
            }
        }
        let opened = match &mut out.file {
            Some(opened) => opened,
            none => none.insert(open(path, epoch, now)?),
        };
        if opened.torn {
            opened.file.write_all(b"\n")?;
        }
        let written = opened.file.write_all(lines);
        opened.torn = written.is_err();
        written
    }
}

fn open(path: &Path, epoch: u64, now: Instant) -> io::Result<Opened> {
    // Nobody else's business: lines tell who asked for what. Not blocking, should it be a pipe that nobody reads.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    Ok(Opened { file, place: (meta.dev(), meta.ino()), epoch, looked: now, torn: false })
}

/// A datagram a line, as syslog(3) sends them. The error says how many were lost.
fn to_syslog(out: &mut Out, syslog: &Syslog, lines: &[u8]) -> Result<(), (io::Error, u64)> {
    let head = head(syslog, SystemTime::now());
    let all = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let count = all.clone().count() as u64;
    for (sent, line) in (0..).zip(all) {
        let message = [head.as_bytes(), line].concat();
        if let Err(error) = send(out, syslog, &message) {
            out.socket = None;
            return Err((error, count - sent));
        }
    }
    Ok(())
}

fn send(out: &mut Out, syslog: &Syslog, message: &[u8]) -> io::Result<()> {
    let socket = match &mut out.socket {
        Some(socket) => socket,
        none => {
            let socket = UnixDatagram::unbound()?;
            socket.set_write_timeout(Some(SYSLOG))?;
            socket.connect(&syslog.socket)?;
            none.insert(socket)
        }
    };
    match socket.send(message) {
        // It was started again: a new socket stands at the path.
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotConnected) => {
            socket.connect(&syslog.socket)?;
            socket.send(message).map(drop)
        }
        sent => sent.map(drop),
    }
}

/// `<134>Jan 31 12:00:00 bailey[7]: ` (RFC 3164), severity informational, UTC.
fn head(syslog: &Syslog, now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let date = OffsetDateTime::from_unix_timestamp(seconds as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let month = MONTHS[usize::from(u8::from(date.month()) - 1)];
    let (priority, pid) = (u32::from(syslog.facility) * 8 + 6, std::process::id());
    let time = format!("{:02}:{:02}:{:02}", date.hour(), date.minute(), date.second());
    format!("<{priority}>{month} {:>2} {time} {}[{pid}]: ", date.day(), syslog.tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_message_is_that_of_rfc_3164() {
        let syslog = Syslog { socket: "/dev/log".into(), facility: 16, tag: "edge".into() };
        let then = UNIX_EPOCH + Duration::from_secs(1_767_225_605);
        assert_eq!(head(&syslog, then), format!("<134>Jan  1 00:00:05 edge[{}]: ", std::process::id()));
    }
}
