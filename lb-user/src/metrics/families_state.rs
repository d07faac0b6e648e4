//! Families of what operators change, where it is kept, and the sockets they do it by.

use super::family::Family;
use crate::admin::Room;
use crate::reconcile::{Overlay, State};

pub(super) fn families(edge: &State) -> Vec<Family> {
    let mut changes = Family::counter("bailey_changes_total", "Changes that operators asked for, by result.");
    changes.add([("result", "made".into())], edge.changes.0);
    changes.add([("result", "refused".into())], edge.changes.1);
    let mut different = Family::gauge("bailey_differences", "Backends and rules that differ from the config file.");
    different.add([], Overlay::default().delta(&edge.overlay).len() as u64);
    let mut writable = Family::gauge(
        "bailey_state_writable",
        "1 while the state directory can be written; without one there is no row.",
    );
    let mut lost = Family::gauge("bailey_state_damaged", "1 when the journal was damaged at the last start.");
    let mut bytes = Family::gauge("bailey_journal_bytes", "Length of the journal.");
    let mut writes = Family::counter("bailey_journal_writes_total", "Lines of the journal, by result.");
    if edge.book.place.is_some() {
        writable.add([], u64::from(edge.book.trouble.is_none()));
        lost.add([], u64::from(edge.book.lost.is_some()));
        bytes.add([], edge.book.bytes);
        writes.add([("result", "written".into())], edge.book.writes.0);
        writes.add([("result", "failed".into())], edge.book.writes.1);
    }
    let saving = edge.worker.sessions.saving();
    let mut waiting = Family::gauge("bailey_sessions_unsaved", "Entries of persistence that wait to be saved.");
    let mut saved = Family::counter("bailey_sessions_saved_total", "Entries of persistence, by result of saving.");
    let mut loaded = Family::gauge("bailey_sessions_loaded", "Entries of persistence that the last start found.");
    if saving.on {
        waiting.add([], saving.waiting);
        saved.add([("result", "written".into())], saving.written.0);
        saved.add([("result", "failed".into())], saving.written.1);
        loaded.add([], saving.loaded);
    }
    vec![changes, different, writable, lost, bytes, writes, waiting, saved, loaded]
}

/// Of the admin socket and the one that only reads.
pub(super) fn of_rooms(rooms: &[Room; 2]) -> [Family; 2] {
    let mut open = Family::gauge("bailey_admin_connections", "Connections to the admin sockets.");
    let mut turned =
        Family::counter("bailey_admin_turned_away_total", "Connections to the admin sockets closed for want of room.");
    for (room, socket) in rooms.iter().zip(["admin", "read_only"]) {
        open.add([("socket", socket.into())], room.taken());
        for (count, cause) in room.turned_away().into_iter().zip(["idle", "full"]) {
            turned.add([("socket", socket.into()), ("cause", cause.into())], count);
        }
    }
    [open, turned]
}
