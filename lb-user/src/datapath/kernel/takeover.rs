//! Going on with an edge that serves: its links are led to the new programs from one packet to the next, and back where
//! anything fails.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use lb_common::abi::Config;

use super::attach;
use super::bpf;
use super::error::failed;
use super::load::{EDGE, STEER};
use super::netlink::Interface;
use super::note::Note;
use super::pins::Pins;
use super::plan::Plan;
use super::sysctl::Sysctl;
use super::{DatapathError, Desired, KernelDatapath};

/// What the first change is to take over.
pub(super) struct Pending {
    /// Its maps are ours too.
    goes_on: bool,
    /// The programs that serve until then.
    edge: OwnedFd,
    steer: OwnedFd,
    /// `CONFIG` from then on.
    wanted: Config,
    /// Interfaces that the edge before had not.
    missing: Vec<Interface>,
    /// Links of interfaces that it had and that are not wanted any more.
    surplus: Vec<PathBuf>,
    note: Note,
}

impl Pending {
    pub(super) fn new(
        pins: &Pins,
        goes_on: bool,
        wanted: Config,
        missing: Vec<Interface>,
        surplus: Vec<PathBuf>,
        note: Note,
    ) -> Result<Self, DatapathError> {
        let program = |name: &str| {
            let pinned = bpf::pinned(&pins.directory().join(name));
            pinned.map_err(|e| failed(format!("use the pinned program `{name}`, to go back to"), &e))
        };
        Ok(Self { goes_on, edge: program(EDGE)?, steer: program(STEER)?, wanted, missing, surplus, note })
    }

    pub(super) fn note(&self) -> &Note {
        &self.note
    }
}

impl KernelDatapath {
    /// Whether packets go to our programs, as far as can be told.
    pub(super) fn owns(&self) -> bool {
        self.steer.leads_to(self.programs.steer_id)
    }

    pub(super) fn handed_over(&self) -> DatapathError {
        DatapathError::HandedOver { pins: self.pins.directory().display().to_string() }
    }

    /// The first change of an edge that goes on with another. On an error packets go where they went before, and the next
    /// change tries again.
    pub(super) async fn take_over(&mut self, pending: Pending, desired: &Desired) -> Result<(), DatapathError> {
        let taken = match pending.goes_on {
            true => self.go_on(&pending, desired).await,
            false => self.replace(&pending, desired).await,
        };
        if let Err(e) = taken.and_then(|()| self.pins.commit()) {
            self.lead_back(&pending);
            self.pending = Some(pending);
            return Err(e);
        }
        for link in &pending.surplus {
            let _ = std::fs::remove_file(link);
        }
        if !self.in_force.forwards() {
            self.routing.clear();
        }
        tracing::info!(same_tables = pending.goes_on, "the datapath of the edge before goes on, its programs replaced");
        Ok(())
    }

    /// Its maps are used: the programs first, then the change.
    async fn go_on(&mut self, pending: &Pending, desired: &Desired) -> Result<(), DatapathError> {
        self.inherit(pending, desired)?;
        let led = match self.write_common(pending).and_then(|()| self.lead(pending)) {
            Ok(()) => self.change_to(desired).await,
            Err(e) => Err(e),
        };
        if led.is_err() {
            self.settings.give_back();
            self.placement.give_back();
            self.routing.drain(..).for_each(Sysctl::leave);
        }
        led
    }

    /// The new maps are filled first, then packets are led there.
    async fn replace(&mut self, pending: &Pending, desired: &Desired) -> Result<(), DatapathError> {
        let standing = self.routes.added().collect();
        let led = match self.change_to(desired).await {
            Ok(()) => self.lead(pending),
            Err(e) => Err(e),
        };
        match led {
            Ok(()) => self.routing.extend(pending.note.routing().filter_map(Sysctl::inherited)),
            Err(_) => {
                self.routes.keep_only(&self.netlink, &standing).await;
                self.routing.drain(..).for_each(Sysctl::leave);
            }
        }
        led
    }

    /// Take for in force what the tables hold.
    fn inherit(&mut self, pending: &Pending, desired: &Desired) -> Result<(), DatapathError> {
        self.in_force = self.tables.state()?;
        self.tables.count(self.in_force.ids());
        self.shield.inherit(self.in_force.ids(), pending.note.syn_cookies())?;
        self.routing = pending.note.routing().filter_map(Sysctl::inherited).collect();
        self.forwarding.inherit(&self.in_force.forwarded(), &desired.forwards, &pending.note.forwards)
    }

    /// What is no service's.
    fn write_common(&mut self, pending: &Pending) -> Result<(), DatapathError> {
        self.placement.place()?;
        self.settings.replace(Config { features: self.settings.config().features, ..pending.wanted })?;
        self.listeners.iter().try_for_each(|listener| self.tables.listen(listener))
    }

    /// Every link to our programs; those that fail are left to [`Self::lead_back`].
    fn lead(&mut self, pending: &Pending) -> Result<(), DatapathError> {
        for attached in &self.attached {
            let led = attached.link.lead_to(&self.programs.edge, Some(&pending.edge));
            led.map_err(|e| failed(format!("lead {} to the new program", attached.interface), &e))?;
        }
        for interface in &pending.missing {
            // What is pinned there leads to an interface of that name that is no more.
            let _ = std::fs::remove_file(self.pins.link(&interface.name));
            self.attached.push(attach::edge(&mut self.ebpf, interface.clone(), self.native, &self.pins)?);
        }
        let led = self.steer.lead_to(&self.programs.steer, Some(&pending.steer));
        led.map_err(|e| failed("lead the network namespace's sockets to the new program", &e))
    }

    /// Every link to the programs of before.
    fn lead_back(&mut self, pending: &Pending) {
        let new = |name: &str| pending.missing.iter().any(|interface| interface.name == name);
        let (new, theirs): (Vec<_>, Vec<_>) = self.attached.drain(..).partition(|attached| new(&attached.interface));
        new.into_iter().for_each(|attached| attached.link.unpin());
        let back = |led: io::Result<()>, what: &str| {
            if let Err(e) = led {
                tracing::error!(error = %e, what, "not led back to the program of the edge before");
            }
        };
        for attached in &theirs {
            back(attached.link.lead_to(&pending.edge, None), &attached.interface);
        }
        back(self.steer.lead_to(&pending.steer, None), STEER);
        self.attached = theirs;
    }

    /// An heir has changed what it liked, and is gone: everything as it was.
    pub(super) async fn take_back(&mut self) -> Result<(), DatapathError> {
        for attached in &self.attached {
            let led = attached.link.lead_to(&self.programs.edge, None);
            led.map_err(|e| failed(format!("lead {} back", attached.interface), &e))?;
        }
        let led = self.steer.lead_to(&self.programs.steer, None);
        led.map_err(|e| failed("lead the network namespace's sockets back", &e))?;
        // An heir that was killed has left what it staged.
        self.pins.unstage()?;
        self.pins.stage_programs(&mut self.ebpf)?;
        self.pins.commit()?;

        self.placement.place_again()?;
        self.settings.store()?;
        self.listeners.iter().try_for_each(|listener| self.tables.listen(listener))?;
        let there = self.tables.state()?;
        self.shield.write_again(&mut self.settings, there.ids().chain(self.in_force.ids()))?;
        self.forwarding.write_again(&there.forwarded())?;
        let both = there.addresses().union(self.in_force.addresses());
        self.tables.let_in(both)?;
        let plan = Plan::between(&there, &self.in_force);
        self.tables.write_all(&plan.add, &there)?;
        self.routes.find_again(&self.netlink, there.addresses()).await?;
        self.routes.add(&self.netlink, self.in_force.addresses()).await?;
        self.tables.write_all(&plan.remove, &there)?;
        self.tables.let_in(self.in_force.addresses().iter())?;
        self.routes.keep_only(&self.netlink, self.in_force.addresses()).await;
        Ok(())
    }
}
