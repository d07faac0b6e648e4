//! A client's and an edge's network namespace with a veth pair between them.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use lb_tests::foreign::{self, Foreign};
use lb_tests::privilege;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A connection over a veth is there at once, or never.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// The edge's own addresses.
pub(crate) const EDGE4: &str = "10.77.0.2";
/// Routed by the client to the edge.
pub(crate) const VIP4: &str = "203.0.113.10";
pub(crate) const ALL4: &str = "203.0.113.20";
pub(crate) const VIP6: &str = "2001:db8:ed9e::10";
pub(crate) const ALL6: &str = "2001:db8:ed9e::20";
/// The edge's interface.
pub(crate) const INTERFACE: &str = "e0.77";

/// Two namespaces, removed when it is dropped.
pub(crate) struct Lab {
    client: String,
    edge: String,
}

impl Lab {
    pub(crate) fn new() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("lbdp-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let lab = Self { client: format!("{id}-c"), edge: format!("{id}-e") };
        let (c, e) = (&lab.client, &lab.edge);
        ip(&format!("netns add {c}"))?;
        ip(&format!("netns add {e}"))?;
        ip(&format!("-n {c} link add c0 type veth peer name {INTERFACE} netns {e}"))?;
        for (namespace, interface, host) in [(c, "c0", 1), (e, INTERFACE, 2)] {
            ip(&format!("-n {namespace} link set lo up"))?;
            ip(&format!("-n {namespace} addr add 10.77.0.{host}/24 dev {interface}"))?;
            ip(&format!("-n {namespace} addr add fd77::{host}/64 dev {interface} nodad"))?;
            ip(&format!("-n {namespace} link set {interface} up"))?;
            // A frame that XDP redirects must carry its checksum; veth leaves it out where it may.
            run("ip", &format!("netns exec {namespace} ethtool -K {interface} tx off"))?;
        }
        ip(&format!("-n {c} route add 203.0.113.0/24 via 10.77.0.2"))?;
        ip(&format!("-n {c} -6 route add 2001:db8:ed9e::/64 via fd77::2"))?;
        Ok(lab)
    }

    /// Frames that XDP sends arrive at the client as long as this lives: a veth takes them where its peer has XDP, too.
    pub(crate) fn taking_xdp(&self) -> Result<Foreign, String> {
        let shown = ip(&format!("-n {} -o link show dev c0", self.client))?;
        let index = shown.split(':').next().and_then(|index| index.trim().parse().ok()).ok_or("no index of c0")?;
        within(&self.client, || foreign::attach_here(index)).map_err(|e| format!("{e:#}"))
    }

    /// Run `work` in the edge's namespace.
    pub(crate) fn in_edge<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(&self.edge, work)
    }

    /// Run `work` in the client's namespace.
    pub(crate) fn in_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(&self.client, work)
    }

    /// Connect from the client, on this CPU.
    pub(crate) fn connect(&self, to: SocketAddr, cpu: u32) -> io::Result<TcpStream> {
        within(&self.client, || {
            privilege::pin_to(cpu)?;
            TcpStream::connect_timeout(&to, CONNECT_DEADLINE)
        })
    }

    /// What `ip` says in the edge's namespace.
    pub(crate) fn edge_ip(&self, arguments: &str) -> Result<String, String> {
        ip(&format!("-n {} {arguments}", self.edge))
    }

    /// The edge's namespace, for a command.
    pub(crate) fn edge_name(&self) -> &str {
        &self.edge
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.client, &self.edge] {
            if let Err(e) = ip(&format!("netns del {namespace}")) {
                eprintln!("datapath: {e}");
            }
        }
    }
}

/// Address and port.
pub(crate) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().expect("an address"), port)
}

fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        let file = std::fs::File::open(format!("/run/netns/{namespace}"))?;
        Ok::<_, io::Error>(move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&file),
            Some(LinkNameSpaceType::Network),
        )?)
    };
    thread::scope(|scope| {
        let work = scope.spawn(|| {
            enter().expect("a namespace of this lab");
            work()
        });
        work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn ip(arguments: &str) -> Result<String, String> {
    run("ip", arguments)
}

fn run(program: &str, arguments: &str) -> Result<String, String> {
    let output = Command::new(program).args(arguments.split_whitespace()).output();
    let output = output.map_err(|e| format!("{program}: {e}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} {arguments}: {why}"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
