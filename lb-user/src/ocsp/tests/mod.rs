//! Messages against `openssl ocsp`, exchanges against servers on loopback, agents behind the seam.

mod client;
mod messages;
mod network;
mod pki;
mod staple;
