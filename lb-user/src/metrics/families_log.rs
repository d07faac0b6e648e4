//! Families of access logs.

use super::family::Family;
use crate::reconcile::State;

pub(super) fn families(edge: &State) -> Vec<Family> {
    let mut lines = Family::counter("bailey_access_log_lines_total", "Lines of access logs that workers gave out.");
    let mut dropped =
        Family::counter("bailey_access_log_dropped_total", "Lines of access logs that are lost, by cause.");
    for row in &edge.worker.report.access_logs {
        lines.add([("log", row.log.clone())], row.lines);
        dropped.add([("log", row.log.clone()), ("cause", "full".into())], row.dropped);
    }
    for (log, count) in edge.worker.logs.lost() {
        dropped.add([("log", log), ("cause", "write".into())], count);
    }
    vec![lines, dropped]
}
