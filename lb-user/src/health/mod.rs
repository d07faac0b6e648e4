//! Health of backends: a pure state machine and a pure schedule, the probes' I/O beside them, and the agent that runs them.
//!
//! `targets` (what to check, from the reconciler) -> [`Agent`] -> `verdicts` (what changed, for the reconciler). Pools that
//! ask a backend the same share its checks. What a pool's backends are in the end, when checks, answers and operators are
//! put together, is said by [`standing`].

mod agent;
mod entries;
mod machine;
mod news;
pub mod probe;
pub mod schedule;
mod standing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_probe;

pub use agent::Agent;
pub use entries::{Target, Targets};
pub use machine::{Change, Machine};
pub use news::{Counts, Gauges, Key, Tally, Verdict};
pub use standing::{Known, Standing, standing};
