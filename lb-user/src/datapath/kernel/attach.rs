//! Attaching `edge` to interfaces and `steer` to the network namespace, by links that are pinned.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{SkLookup, Xdp, XdpMode, loaded_programs};
use tokio::time::Instant;

use super::error::failed;
use super::load::{EDGE, STEER, program};
use super::netlink::{Interface, Netlink};
use super::pins::Pins;
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
    /// Held so that removing the pins by hand does not detach a running edge.
    _link: PinnedLink,
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

/// Id of the loaded `edge`.
pub(super) fn edge_id(ebpf: &mut Ebpf) -> Result<u32, DatapathError> {
    let edge: &mut Xdp = program(ebpf, EDGE)?;
    edge.info().map(|info| info.id()).map_err(|e| failed("ask for the id of `edge`", &e))
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
    let link = pins.pin_link(link, &interface.name)?;
    Ok(Attached { interface: interface.name, index: interface.index, native, _link: link })
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
pub(super) fn steer(ebpf: &mut Ebpf, pins: &Pins) -> Result<PinnedLink, DatapathError> {
    let steer: &mut SkLookup = program(ebpf, STEER)?;
    let what = "attach sk_lookup to the network namespace";
    let namespace = std::fs::File::open("/proc/thread-self/ns/net").map_err(|e| failed(what, &e))?;
    let id = steer.attach(namespace).map_err(|e| failed(what, &e))?;
    let link = steer.take_link(id).map_err(|e| failed(what, &e))?;
    pins.pin_link(FdLink::from(link), STEER)
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

fn program_name(id: u32) -> String {
    let info = loaded_programs().flatten().find(|info| info.id() == id);
    info.and_then(|info| info.name_as_str().map(str::to_owned)).unwrap_or_default()
}
