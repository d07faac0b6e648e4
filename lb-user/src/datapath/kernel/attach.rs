//! Attaching `edge` to interfaces and `steer` to the network namespace, by links that are pinned.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{SkLookup, Xdp, XdpMode, loaded_programs};
use tokio::time::Instant;

use super::bpf;
use super::error::failed;
use super::load::{EDGE, STEER, program};
use super::netlink::{Interface, Netlink};
use super::pins::{Pins, program_of};
use crate::datapath::DatapathError;

/// The kernel detaches a program from a link that is gone after an RCU grace period; so long it may take at the most.
const DETACH_DEADLINE: Duration = Duration::from_secs(3);
const DETACH_POLL: Duration = Duration::from_millis(2);

/// `edge` on an interface.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) interface: String,
    pub(super) index: u32,
    pub(super) native: bool,
    pub(super) link: Link,
}

/// A pinned link, held so that removing the pins by hand does not detach a running edge.
#[derive(Debug)]
pub(super) struct Link {
    fd: OwnedFd,
    path: PathBuf,
}

impl Link {
    /// The link that is pinned at `path`.
    pub(super) fn at(path: PathBuf) -> Result<Self, DatapathError> {
        let fd = bpf::pinned(&path).map_err(|e| failed(format!("use the pinned link {}", path.display()), &e))?;
        Ok(Self { fd, path })
    }

    /// Lead packets to `program`, from one to the next; only if they go to `old` now, where that is given.
    pub(super) fn lead_to(&self, program: &OwnedFd, old: Option<&OwnedFd>) -> io::Result<()> {
        bpf::update_link(self.fd.as_fd(), program.as_fd(), old.map(OwnedFd::as_fd))
    }

    /// Whether packets go to the program of this id, as far as the pin tells.
    pub(super) fn leads_to(&self, id: u32) -> bool {
        program_of(&self.path).is_none_or(|leads_to| leads_to == id)
    }

    /// Without its pin it is detached when the last process that holds it lets go.
    pub(super) fn unpin(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The programs of an edge.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) edge: OwnedFd,
    pub(super) edge_id: u32,
    pub(super) steer: OwnedFd,
    pub(super) steer_id: u32,
}

impl Programs {
    /// Those of a loaded object.
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        let unusable = |e: &(dyn std::error::Error + 'static)| failed("use the loaded programs", e);
        let xdp: &mut Xdp = program(ebpf, EDGE)?;
        let edge = xdp.fd().map_err(|e| unusable(&e))?.as_fd().try_clone_to_owned().map_err(|e| unusable(&e))?;
        let edge_id = xdp.info().map_err(|e| unusable(&e))?.id();
        let lookup: &mut SkLookup = program(ebpf, STEER)?;
        let steer = lookup.fd().map_err(|e| unusable(&e))?.as_fd().try_clone_to_owned().map_err(|e| unusable(&e))?;
        let steer_id = lookup.info().map_err(|e| unusable(&e))?.id();
        Ok(Self { edge, edge_id, steer, steer_id })
    }
}

/// The interfaces of these names; one that is named twice once.
pub(super) async fn interfaces(netlink: &Netlink, names: &[String]) -> Result<Vec<Interface>, DatapathError> {
    let mut all = netlink.interfaces().await?;
    let available = listed(&all);
    let names: BTreeSet<&String> = names.iter().collect();
    names
        .into_iter()
        .map(|name| {
            let missing = || DatapathError::NoInterface { name: name.clone(), available: available.clone() };
            all.remove(name).ok_or_else(missing)
        })
        .collect()
}

fn listed(interfaces: &BTreeMap<String, Interface>) -> String {
    interfaces.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Wait until `interface` carries no program of `dying`; refuse it when it carries another.
pub(super) async fn check_free(netlink: &Netlink, interface: &Interface, dying: &[u32]) -> Result<(), DatapathError> {
    let Some(id) = detached(netlink, interface.index, dying).await? else { return Ok(()) };
    Err(DatapathError::ForeignProgram { interface: interface.name.clone(), program: program_name(id), id })
}

/// Wait until the interface carries no program of `dying`. Gives what it carries then.
pub(super) async fn detached(netlink: &Netlink, index: u32, dying: &[u32]) -> Result<Option<u32>, DatapathError> {
    let deadline = Instant::now() + DETACH_DEADLINE;
    loop {
        let carried = netlink.xdp(index).await?;
        match carried {
            Some(id) if dying.contains(&id) && Instant::now() < deadline => tokio::time::sleep(DETACH_POLL).await,
            carried => return Ok(carried),
        }
    }
}

/// Attach `edge`, in the driver where `native` is asked for and the driver can, else in the stack.
pub(super) fn edge(
    ebpf: &mut Ebpf,
    interface: Interface,
    native: bool,
    pins: &Pins,
) -> Result<Attached, DatapathError> {
    let edge: &mut Xdp = program(ebpf, EDGE)?;
    let (link, native) = by_link(edge, &interface, native)?;
    let link = Link::at(pins.pin_link(link, &interface.name)?)?;
    Ok(Attached { interface: interface.name, index: interface.index, native, link })
}

/// Attach a loaded program, in the driver where `native` is asked for and the driver can, else in the stack. Says
/// whether it is in the driver.
pub(super) fn by_link(program: &mut Xdp, interface: &Interface, native: bool) -> Result<(FdLink, bool), DatapathError> {
    let name = &interface.name;
    let mut mode = if native { XdpMode::Driver } else { XdpMode::Skb };
    let mut attached = program.attach_to_if_index(interface.index, mode);
    if let (XdpMode::Driver, Err(e)) = (mode, &attached) {
        let why = failed("attach", e);
        if matches!(why, DatapathError::Permission { .. }) {
            return Err(failed(format!("attach XDP to {name}"), e));
        }
        tracing::warn!(interface = name, why = %why, "the driver does not take XDP; attaching in the stack (generic)");
        mode = XdpMode::Skb;
        attached = program.attach_to_if_index(interface.index, mode);
    }
    let id = attached.map_err(|e| failed(format!("attach XDP to {name}"), &e))?;
    let link = program.take_link(id).map_err(|e| failed(format!("attach XDP to {name}"), &e))?;
    // aya attaches by netlink where the kernel refuses a link; that would outlive us, so it is given up here.
    let link = FdLink::try_from(link).map_err(|e| failed(format!("attach XDP to {name} by a BPF link"), &e))?;
    Ok((link, matches!(mode, XdpMode::Driver)))
}

/// Attach `steer` to the network namespace of this thread.
pub(super) fn steer(ebpf: &mut Ebpf, pins: &Pins) -> Result<Link, DatapathError> {
    let steer: &mut SkLookup = program(ebpf, STEER)?;
    let what = "attach sk_lookup to the network namespace";
    let namespace = std::fs::File::open("/proc/thread-self/ns/net").map_err(|e| failed(what, &e))?;
    let id = steer.attach(namespace).map_err(|e| failed(what, &e))?;
    let link = steer.take_link(id).map_err(|e| failed(what, &e))?;
    Link::at(pins.pin_link(FdLink::from(link), STEER)?)
}

/// Receive queues of an interface; none where that cannot be told.
pub(super) fn receive_queues(interface: &Interface) -> Option<usize> {
    let directory = Path::new("/sys/class/net").join(&interface.name);
    // With another namespace's /sys mounted, the name may be another interface's.
    let index: u32 = std::fs::read_to_string(directory.join("ifindex")).ok()?.trim().parse().ok()?;
    if index != interface.index {
        return None;
    }
    let queues = std::fs::read_dir(directory.join("queues")).ok()?;
    Some(queues.flatten().filter(|queue| queue.file_name().to_string_lossy().starts_with("rx-")).count())
}

/// Names of programs that were loaded when the edge began: to ask for them takes a privilege that it gives up.
static NAMES: OnceLock<BTreeMap<u32, String>> = OnceLock::new();

/// Ask for them while that can be done.
pub(super) fn remember_names() {
    let names = loaded_programs().flatten().filter_map(|info| Some((info.id(), info.name_as_str()?.to_owned())));
    // Who is asked again has not given anything up.
    let _ = NAMES.set(names.collect());
}

fn program_name(id: u32) -> String {
    let info = loaded_programs().flatten().find(|info| info.id() == id);
    let now = info.and_then(|info| info.name_as_str().map(str::to_owned));
    now.or_else(|| NAMES.get()?.get(&id).cloned()).unwrap_or_default()
}
