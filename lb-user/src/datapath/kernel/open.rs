//! Opening an edge: anew, or beside one of its name that serves and is to be gone on with.

use std::collections::BTreeSet;

use tokio::sync::mpsc;

use super::attach::{self, Attached, Link, Programs};
use super::events::Events;
use super::load::{self, Loaded, STEER, Setup};
use super::netlink::{Interface, Netlink};
use super::note::Note;
use super::pins::{self, Found, Pins};
use super::routes::Routes;
use super::takeover::Pending;
use super::{
    AbortOnDropHandle, Bounds, Forwarding, KernelDatapath, KernelOptions, Shield, State, Steering, Tables, failed,
    forward, log,
};
use crate::datapath::{DatapathError, Inherited, Listener, Worker, listen};

/// Next hops that wait to be asked for at the most.
const NEIGHBOURS: usize = 256;

/// How what stands is begun with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Nothing stands, or nothing that could be led over to new programs.
    Anew,
    /// Its maps are used.
    GoOn,
    /// Packets are led from its programs to new ones with maps of their own.
    Replace,
}

impl KernelDatapath {
    /// Load, pin and attach everything; no service yet.
    ///
    /// Where an edge of this name serves still, because it was killed or hands over, everything is made beside it, and
    /// taken over with the first [`super::Datapath::apply`]: until then, and where anything fails, packets go where they
    /// went. Its maps are gone on with. Where they are not as this version or these options want them, an edge that hands
    /// over, or was inherited, is refused; of another that was killed only the place is taken.
    pub async fn open(options: KernelOptions, inherited: Option<Inherited>) -> Result<Self, DatapathError> {
        listen::inherit(inherited.as_ref().map_or(&[], |inherited| &inherited.listeners));
        let heir = inherited.as_ref().is_some_and(|inherited| inherited.alive);
        let (mut pins, found) = Pins::claim(&options.name, heir)?;
        let netlink = Netlink::open()?;
        let interfaces = attach::interfaces(&netlink, &options.interfaces).await?;
        let loopback = attach::interfaces(&netlink, &["lo".to_owned()]).await?;
        let loopback = loopback.first().map_or(1, |lo| lo.index);
        let bounds = Bounds { services: options.max_services, addresses: options.max_addresses };
        let rss = takes_rss(&options, &interfaces);
        let setup = Setup {
            rss,
            workers: &options.workers,
            bounds,
            log_sample: options.packet_log_sample,
            tuning: &options.tuning,
        };
        let way = way(&setup, &options, &found, &interfaces, &pins, inherited.as_ref())?;
        let dying = match way {
            Way::Anew => {
                pins.clear()?;
                found.programs()
            }
            Way::GoOn | Way::Replace => Vec::new(),
        };
        for interface in interfaces.iter().filter(|interface| way == Way::Anew || !carries(&found, interface)) {
            attach::check_free(&netlink, interface, &dying).await?;
        }
        let mut routes = Routes::open(&netlink, loopback, &found.addresses).await?;
        if way == Way::Anew {
            routes.keep_only(&netlink, &BTreeSet::new()).await;
        }

        let Loaded { mut ebpf, table, settings, placement } = load::load(&setup, Some(&pins), way == Way::GoOn)?;
        let wanted = load::config(&setup, settings.config().seed, settings.config().features);
        pins.stage_programs(&mut ebpf)?;
        let programs = Programs::of(&mut ebpf)?;
        let mut tables = Tables::take(&mut ebpf)?;
        let shield = Shield::take(&mut ebpf)?;
        let (neighbours, asked) = mpsc::channel(NEIGHBOURS);
        let events = Events::start(&mut ebpf, neighbours)?;
        let asking = AbortOnDropHandle(forward::ask(asked)?);
        let named = interfaces.iter().map(|interface| (interface.index, interface.name.clone())).collect();
        let rings = Some(pins.directory().to_owned());
        let forwarding = Forwarding::take(&mut ebpf, &options.tuning, named, rings)?;
        let log = match options.packet_log_sample {
            0 => None,
            _ => Some(log::forward(&mut ebpf)?),
        };

        let left = inherited.as_ref().map_or(&[][..], |inherited| &inherited.listeners);
        let listeners = options.workers.iter().map(|worker| worker_listener(*worker, left));
        let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
        if way != Way::GoOn {
            listeners.iter().try_for_each(|listener| tables.listen(listener))?;
        }
        let (mut attached, steer, pending) = match way {
            Way::Anew => (Vec::new(), attach::steer(&mut ebpf, &pins)?, None),
            Way::GoOn | Way::Replace => {
                let note = inherited.map(|inherited| Note::read(&inherited.note)).unwrap_or_default();
                let (theirs, missing) = interfaces.iter().partition::<Vec<_>, _>(|one| carries(&found, one));
                let attached = theirs.into_iter().map(|one| theirs_on(one, &pins)).collect::<Result<Vec<_>, _>>()?;
                let surplus = pins.other_links(&found, &interfaces.iter().map(|one| &one.name[..]).collect::<Vec<_>>());
                let missing = missing.into_iter().cloned().collect();
                let goes_on = way == Way::GoOn;
                let pending = Pending::new(&pins, goes_on, wanted, missing, surplus, note)?;
                (attached, Link::at(pins.link(STEER))?, Some(pending))
            }
        };
        if pending.is_none() {
            for interface in interfaces {
                attached.push(attach::edge(&mut ebpf, interface, options.native, &pins)?);
            }
            pins.commit()?;
        }
        Ok(Self {
            attached,
            steer,
            programs,
            ebpf,
            pending,
            pins,
            tables,
            table,
            settings,
            placement,
            shield,
            events,
            forwarding,
            routing: Vec::new(),
            _asking: asking,
            bounds,
            native: options.native,
            in_force: State::default(),
            listeners,
            netlink,
            routes,
            log,
        })
    }
}

/// How to begin with what was found; refused where that would be other than whoever hands over counts on.
fn way(
    setup: &Setup<'_>,
    options: &KernelOptions,
    found: &Found,
    interfaces: &[Interface],
    pins: &Pins,
    inherited: Option<&Inherited>,
) -> Result<Way, DatapathError> {
    let alive = inherited.is_some_and(|inherited| inherited.alive);
    // In another network namespace, or on interfaces that were made anew, nothing can be led over.
    if found.program_on(STEER).is_none() || !interfaces.iter().any(|interface| carries(found, interface)) {
        return match alive {
            true => Err(DatapathError::Resized { key: "interfaces" }),
            false => Ok(Way::Anew),
        };
    }
    let ours = pins::format();
    if found.format.as_ref() != Some(&ours) {
        let theirs = found.format.clone().unwrap_or_else(|| "none".to_owned());
        if inherited.is_some() {
            let pins = pins.directory().display().to_string();
            return Err(DatapathError::Version { pins, theirs, ours });
        }
        tracing::warn!(theirs, ours, "an edge of another version was killed here; its flows are not gone on with");
        return Ok(Way::Replace);
    }
    let (key, way) = if let Some(key) = load::misfit(setup, pins.directory())? {
        (key, Way::Replace)
    } else if load::hash_seed(pins.directory())? != setup.tuning.hash_seed {
        ("hash_seed", Way::Replace)
    } else if !options.native && interfaces.iter().any(|interface| interface.native && carries(found, interface)) {
        ("datapath", Way::Anew)
    } else {
        return Ok(Way::GoOn);
    };
    if alive {
        return Err(DatapathError::Resized { key });
    }
    tracing::warn!(key, "changed since the edge before; its flows are not gone on with");
    Ok(way)
}

/// Whether the program on the interface is the one that its pinned link leads to.
fn carries(found: &Found, interface: &Interface) -> bool {
    interface.xdp.is_some() && interface.xdp == found.program_on(&interface.name)
}

fn theirs_on(interface: &Interface, pins: &Pins) -> Result<Attached, DatapathError> {
    let link = Link::at(pins.link(&interface.name))?;
    Ok(Attached { interface: interface.name.clone(), index: interface.index, native: interface.native, link })
}

fn takes_rss(options: &KernelOptions, interfaces: &[Interface]) -> bool {
    match options.steering {
        Steering::Hash => false,
        Steering::Rss => true,
        Steering::Auto => {
            let covered = |interface| attach::receive_queues(interface).is_some_and(|n| n >= options.workers.len());
            interfaces.iter().all(covered)
        }
    }
}

/// The listener of a worker: the one that was inherited, or a new one.
fn worker_listener(worker: Worker, left: &[Listener]) -> Result<Listener, DatapathError> {
    if let Some(listener) = left.iter().find(|listener| listener.worker == worker.index && listener.address.is_none()) {
        return Ok(listener.clone());
    }
    let socket = listen::assigned().map_err(|e| failed(format!("make the listener of worker {}", worker.index), &e))?;
    Ok(listen::listener(worker.index, None, socket))
}
