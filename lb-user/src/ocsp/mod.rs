//! What issuers' responders say of certificates (OCSP, RFC 6960): of clients' certificates for the worker, which asks,
//! and of the edge's own, to be stapled to handshakes.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`message`] | requests and the check of responses, pure |
//! | [`fetch`] | one exchange with a responder |
//! | [`ask`] | the two together, behind a seam for tests |
//! | [`client`] | answers the worker's questions, with a cache |
//! | [`staple`] | keeps staples fresh |
//! | [`store`] | staples across restarts |

pub mod ask;
pub mod client;
pub mod fetch;
pub mod message;
pub mod staple;
pub mod store;
#[cfg(test)]
mod tests;

pub use ask::{Ask, AskError, Counts, Responders, Use};
pub use client::{AgentSide, ClientAgent, Questions, WorkerSide, channel};
pub use message::{Checked, MessageError, Question, check_response, responder_url};
pub use staple::{Staple, StapleAgent, StapleTarget, Staples};
