//! Names of backends: looked up again when what DNS said runs out, and told when it changes. `machine` decides what holds
//! and what is due, and is pure; `lookup` asks; `agent` brings both together; `notes` is what others may read of it; `store`
//! keeps the last good answers for a start without DNS.
//!
//! | what DNS says | what becomes of the name's addresses |
//! | --- | --- |
//! | addresses | they are the name's; those that were and are no more leave: they drain, then they are gone |
//! | that there are none (NXDOMAIN, no record) | they stay for `hold`, then they leave |
//! | nothing, an error, what cannot be read, addresses that no backend can have | they stay for as long as that lasts |
//!
//! IPv4 and IPv6 are asked for apart: where one of the two fails, its addresses stay, and the other's change.

mod agent;
mod lookup;
mod machine;
mod notes;
mod store;
#[cfg(test)]
mod tests;

pub use agent::{NamesAgent, Wanted, first};
pub use lookup::{Dns, Lookup};
pub use machine::Heard;
pub use notes::{Note, Notes};
pub use store::{Answers, Store};
