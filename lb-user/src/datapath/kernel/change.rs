//! From the state in force to the next.

use std::path::Path;

use super::plan::{Plan, State};
use super::sysctl::Sysctl;
use super::{DatapathError, Desired, KernelDatapath};

impl KernelDatapath {
    /// Make the kernel what `desired` says. On an error nothing has changed.
    pub(super) async fn change_to(&mut self, desired: &Desired) -> Result<(), DatapathError> {
        let target = State::of(desired, self.bounds)?;
        let changed = self.change(desired, target).await;
        if !self.in_force.forwards() {
            self.routing.clear();
        }
        changed
    }

    /// `bpf_fib_lookup` answers for an interface that forwards. `lo` is one that no packet comes in by: the host does not
    /// become a router.
    fn route(&mut self) -> Result<(), DatapathError> {
        if !self.routing.is_empty() {
            return Ok(());
        }
        for name in ["ipv4/conf/lo/forwarding", "ipv6/conf/lo/forwarding"] {
            match Sysctl::set(name, "1") {
                Ok(changed) => self.routing.extend(changed),
                // A host without IPv6 has no such setting.
                Err(_) if name.starts_with("ipv6") && !Path::new("/proc/sys/net/ipv6").exists() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    async fn change(&mut self, desired: &Desired, target: State) -> Result<(), DatapathError> {
        let plan = Plan::between(&self.in_force, &target);
        if target.forwards() {
            self.route()?;
        }
        self.shield.apply(&mut self.settings, desired)?;
        if let Err(e) = self.forwarding.apply(&mut self.settings, &desired.forwards) {
            self.shield.revert(&mut self.settings);
            return Err(e);
        }
        let both = self.in_force.addresses().union(target.addresses());
        let let_in = self.tables.let_in(both);
        if let Err(e) = let_in.and_then(|()| self.tables.write_all(&plan.add, &self.in_force)) {
            self.revert();
            return Err(e);
        }
        let new_routes = match self.routes.add(&self.netlink, target.addresses()).await {
            Ok(new_routes) => new_routes,
            Err(e) => {
                self.tables.undo(&plan.add, &self.in_force);
                self.revert();
                return Err(e);
            }
        };
        if let Err(e) = self.tables.write_all(&plan.remove, &self.in_force) {
            self.routes.remove(&self.netlink, &new_routes).await;
            self.tables.undo(&plan.add, &self.in_force);
            self.revert();
            return Err(e);
        }
        // Here the change is made; what is left is to take away routes that lead to no service.
        self.tables.count(target.ids());
        self.in_force = target;
        self.forwarding.retire(&mut self.settings);
        if let Err(e) = self.tables.let_in(self.in_force.addresses().iter()) {
            tracing::warn!(error = %e, "packets to addresses that are no service's any more are still looked at");
        }
        self.routes.keep_only(&self.netlink, self.in_force.addresses()).await;
        Ok(())
    }

    fn revert(&mut self) {
        self.forwarding.revert(&mut self.settings);
        self.shield.revert(&mut self.settings);
    }
}
