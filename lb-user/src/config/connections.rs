//! How many connections of clients there may be, and whether the host's limit of open files lets them.

use super::host::Host;
use super::problem::{Problem, Problems};
use super::section::Section;

/// Where nothing is said, and the limit of open files is no smaller.
const DEFAULT: u64 = 131_072;
/// Descriptors of a connection: the client's and a backend's.
const EACH: u64 = 2;
/// Descriptors for everything else: listeners, logs, pipes of bytes that are spliced, idle connections to backends.
const OTHERS: u64 = 1024;

/// `[edge] max_connections`: where it is not set, as many as the limit of open files lets be.
pub(super) fn bound(section: &mut Section<'_>, problems: &mut Problems, host: &Host) -> u32 {
    let fit = (host.open_files.saturating_sub(OTHERS) / EACH).max(64);
    let Some(asked) = section.integer(problems, "max_connections", 64..=16_777_216) else {
        return u32::try_from(fit.min(DEFAULT)).unwrap_or(u32::MAX);
    };
    if u64::from(asked) > fit {
        let (need, limit) = (needed(asked), host.open_files);
        problems.push(
            Problem::warning(
                section.span_of("max_connections"),
                format!("{asked} connections may need {need} open files, and the limit here is {limit}"),
            )
            .help(format!("raise the limit (LimitNOFILE= in the unit, ulimit -Hn in a shell), or write {fit} or less")),
        );
    }
    asked
}

/// Open files that so many connections may need.
fn needed(connections: u32) -> u64 {
    u64::from(connections) * EACH + OTHERS
}
