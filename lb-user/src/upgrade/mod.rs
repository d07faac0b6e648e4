//! One control plane takes the place of another while both live.
//!
//! The old one starts the new one with a socket as its standard input, and says what stands (`words`): sockets of the
//! edge, listeners, the note, where clients were. The new one opens the datapath over what is alive, starts workers on
//! the same listeners, and says that it is ready. Only then is it told to go on, and when it says that it serves, the
//! old one leaves everything to it and drains its workers. Until then nothing is lost by its end: the old one takes
//! back what was changed, and goes on.

mod new;
mod old;
#[cfg(test)]
mod tests;
mod words;

pub use new::{Predecessor, Successor, refuse};
pub(crate) use old::{Old, Sockets};
pub use words::{HANDOVER_VERSION, HandoverError};
