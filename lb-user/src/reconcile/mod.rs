//! One task that alone decides: it owns the config, what operators changed, what the checks say, and the datapath.

mod overlay;
mod plan;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests_pure;

pub use overlay::{ChangeError, Effective, Mark, Overlay, PoolChange};
pub use plan::{Health, Intent, Observed, Plan, PlanError, ServiceIds, build_snapshot, plan, state};
