//! What asks the edges: wrk, h2load, and an own client for what those cannot do (full handshakes only, idle connections).

pub(crate) mod client;
pub(crate) mod h2load;
pub(crate) mod wrk;
