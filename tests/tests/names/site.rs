//! What the tests stand on: nginx on several addresses of loopback, dnsmasq, and a DNS server of the test's own that
//! answers as it is told.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use lb_tests::here::free_address;
use lb_tests::need::find;
use lb_tests::peers::nginx;
use lb_tests::process::Process;
use lb_tests::wait::wait_ok;
use rustix::process::Signal;

/// What nobody waits longer for.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// nginx on `127.0.0.N` for each of these, on one port; each says its address.
pub(crate) fn servers(folder: &Path, last: &[u8], tls: bool) -> Result<(Process, u16)> {
    let port = free_address()?.port();
    let secure = |n: &u8| match tls {
        true => format!("listen 127.0.0.{n}:{port} ssl; ssl_certificate edge.pem; ssl_certificate_key edge.key;"),
        false => format!("listen 127.0.0.{n}:{port};"),
    };
    let server = |n: &u8| format!("server {{ {} location / {{ return 200 \"127.0.0.{n}\"; }} }}\n", secure(n));
    let text: String = last.iter().map(server).collect();
    let ready = SocketAddr::from(([127, 0, 0, last[0]], port));
    Ok((nginx(folder, &text, ready)?, port))
}

/// dnsmasq, which answers from a file of hosts, with a TTL of one second.
pub(crate) struct Dnsmasq {
    process: Process,
    hosts: std::path::PathBuf,
    /// Where it listens.
    pub(crate) at: SocketAddr,
}

impl Dnsmasq {
    pub(crate) fn start(folder: &Path, hosts: &str) -> Result<Self> {
        let at = free_address()?;
        let file = folder.join("hosts");
        std::fs::write(&file, hosts)?;
        let mut command = Command::new(find("dnsmasq").context("no dnsmasq")?);
        command.args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--bind-interfaces", "--local-ttl=1"]);
        command.args(["--listen-address=127.0.0.1", "--conf-file=/dev/null", "--local=/test/", "--log-queries"]);
        command.args(["--log-facility=-", "--user=", "--pid-file="]);
        command.arg(format!("--port={}", at.port())).arg(format!("--addn-hosts={}", file.display()));
        let process = Process::start("dnsmasq", folder, &mut command)?;
        let ready = || std::net::TcpStream::connect(at).map_err(anyhow::Error::from);
        wait_ok("dnsmasq", LONG, ready)?;
        Ok(Self { process, hosts: file, at })
    }

    /// Answer by these from now on.
    pub(crate) fn say(&self, hosts: &str) -> Result<()> {
        std::fs::write(&self.hosts, hosts)?;
        self.process.signal(Signal::HUP)
    }

    /// Stop, or go on.
    pub(crate) fn halt(&self, halted: bool) -> Result<()> {
        self.process.signal(if halted { Signal::STOP } else { Signal::CONT })
    }
}

/// How questions for IPv4 are answered; those for IPv6 get no address.
#[derive(Debug, Clone)]
pub(crate) enum Says {
    /// These, for as short as may be.
    Addresses(Vec<Ipv4Addr>),
    /// A code and nothing else.
    Code(u8),
    Silence,
    /// Bytes that are no answer.
    Noise,
    /// The right header, and records that end before they should.
    Cut,
    /// An answer to somebody else's question.
    Foreign,
}

/// A DNS server over UDP, on a thread that ends when this is dropped.
pub(crate) struct Puppet {
    pub(crate) at: SocketAddr,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Puppet {
    pub(crate) fn start(says: Says) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let at = socket.local_addr()?;
        let (says, ends, asked) =
            (Arc::new(Mutex::new(says)), Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (told, ended, count) = (says.clone(), ends.clone(), asked.clone());
        let thread = std::thread::spawn(move || {
            let mut question = [0; 512];
            while !ended.load(Ordering::Relaxed) {
                let Ok((n, peer)) = socket.recv_from(&mut question) else { continue };
                count.fetch_add(1, Ordering::Relaxed);
                let says = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(answer) = answer(&question[..n], &says) {
                    let _ = socket.send_to(&answer, peer);
                }
            }
        });
        Ok(Self { at, says, asked, ends, thread: Some(thread) })
    }

    /// From now on; returns when it was asked a few times more, so that whoever asks has heard it.
    pub(crate) fn say(&self, says: Says) -> Result<()> {
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = says;
        let before = self.asked.load(Ordering::Relaxed);
        wait_ok("questions", LONG, || {
            let asked = self.asked.load(Ordering::Relaxed) - before;
            anyhow::ensure!(asked >= 3, "{asked}");
            Ok(())
        })
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An answer (RFC 1035, 4.1); none: silence.
fn answer(question: &[u8], says: &Says) -> Option<Vec<u8>> {
    // A header, one name, its type and class.
    let name = question.get(12..)?.iter().position(|byte| *byte == 0)?;
    let end = 12 + name + 5;
    let v4 = question.get(end - 4..end - 2)? == [0, 1];
    let header = |code: u8, records: u8| {
        let mut bytes = question[..end].to_vec();
        bytes[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, records, 0, 0, 0, 0]);
        bytes
    };
    let record = |ip: &Ipv4Addr| [&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4][..], &ip.octets()].concat();
    Some(match says {
        Says::Silence => return None,
        Says::Noise => (0..200u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect(),
        Says::Code(code) => header(*code, 0),
        Says::Addresses(_) if !v4 => header(0, 0),
        Says::Addresses(list) => [header(0, list.len() as u8), list.iter().flat_map(record).collect()].concat(),
        Says::Cut => [header(0, 9), record(&Ipv4Addr::LOCALHOST)].concat()[..end + 9].to_vec(),
        Says::Foreign => {
            let mut bytes = [header(0, 1), record(&Ipv4Addr::new(127, 9, 9, 9))].concat();
            bytes[0] ^= 0xff;
            bytes[13] ^= 1;
            bytes
        }
    })
}
