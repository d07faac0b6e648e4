//! Health of backends: a pure state machine, the probe's I/O beside it, and the agent that runs them.

mod agent;
mod machine;
mod probe;
#[cfg(test)]
mod tests;

pub use agent::{Agent, Counts, Key, Target, Verdict};
pub use machine::{Change, Machine};
pub use probe::{Opening, Outcome, probe};
