//! Words about names of backends, and about those that drain.

use super::table::{ago, few};
use crate::admin::api::{BackendView, NameView};

/// A line about a name.
pub(super) fn name(view: &NameView) -> String {
    let addresses: Vec<String> = view.addresses.iter().map(ToString::to_string).collect();
    let is = if addresses.is_empty() { "has no address".to_owned() } else { format!("is {}", few(&addresses)) };
    let mut more = Vec::new();
    more.extend(view.answered_seconds.map(|seconds| format!("answered {} ago", ago(seconds))));
    more.extend(view.next_seconds.map(|seconds| format!("next in {}", ago(seconds))));
    more.extend(view.empty_seconds.map(|seconds| format!("DNS has none since {}", ago(seconds))));
    if let (Some(error), Some(seconds)) = (&view.error, view.failing_seconds) {
        more.push(format!("fails since {}: {error}", ago(seconds)));
    }
    let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join("; ")) };
    format!("name {} {is}{more}\n", view.name)
}

/// Its address, and the name that it was found by.
pub(super) fn backend(view: &BackendView) -> String {
    match &view.name {
        Some(name) => format!("{} ({name})", view.address),
        None => view.address.to_string(),
    }
}

/// Its state; of a drain, the time that is left.
pub(super) fn state(view: &BackendView) -> String {
    match view.drain_left_seconds {
        Some(left) => format!("{} ({} left)", view.state, ago(left)),
        None => view.state.clone(),
    }
}

/// What is in flight.
pub(super) fn active(view: &BackendView) -> String {
    match view.tunnels {
        0 => view.active.to_string(),
        tunnels => format!("{} ({tunnels} tunnels)", view.active),
    }
}
