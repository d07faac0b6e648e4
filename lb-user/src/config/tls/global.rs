//! `[tls]`: tickets, watching, and bounds of handshakes, for the whole edge.

use super::super::files::Files;
use super::super::model::Tls;
use super::super::problem::{Problem, Problems};
use super::super::section::Section;
use super::tickets;
use std::ops::RangeInclusive;
use std::time::Duration;
use tls_worker::api::{HandshakeLimits, MAX_TICKET_LIFETIME};

const LIFETIME: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(MAX_TICKET_LIFETIME as u64);
const WATCH: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3_600);
/// Oftener is looked for nothing.
const WATCH_LEAST: Duration = Duration::from_secs(1);
const HANDSHAKES: RangeInclusive<u32> = 1..=1_000_000;
const PER_TURN: RangeInclusive<u32> = 1..=1_024;
/// One with a post-quantum key share has about 1,700 bytes; rustls takes no message over 64 KiB.
const CLIENT_HELLO: RangeInclusive<u32> = 2_048..=65_536;

pub(in crate::config) fn tls(mut section: Section<'_>, p: &mut Problems, files: &mut Files<'_>) -> Tls {
    let default = Tls::default();
    let ticket_keys = section.string(p, "ticket_keys").and_then(|at| {
        let keys = files.ticket_keys(&at, p, tickets::keys);
        files.tell_of_open_mode("file of ticket keys", &at, p);
        keys
    });
    let ticket_lifetime = section.duration(p, "ticket_lifetime", LIFETIME).unwrap_or(default.ticket_lifetime);
    let watch = match section.duration(p, "watch", WATCH) {
        None => default.watch,
        Some(Duration::ZERO) => None,
        Some(watch) if watch < WATCH_LEAST => {
            p.push(
                Problem::error(section.span_of("watch"), "files are looked at too often")
                    .help("write \"1s\" or longer, or \"0s\" for never"),
            );
            default.watch
        }
        Some(watch) => Some(watch),
    };
    let limits = default.handshakes;
    let handshakes = HandshakeLimits {
        at_once: section.integer(p, "max_handshakes", HANDSHAKES).unwrap_or(limits.at_once),
        per_source: section.integer(p, "max_handshakes_per_source", HANDSHAKES).unwrap_or(limits.per_source),
        per_turn: section.integer(p, "handshakes_per_turn", PER_TURN).unwrap_or(limits.per_turn),
        max_client_hello: section.size(p, "max_client_hello", CLIENT_HELLO).unwrap_or(limits.max_client_hello),
    };
    section.finish(p);
    Tls { ticket_keys, ticket_lifetime, watch, handshakes }
}
