//! Families of certificates, staples, ticket keys and handshakes.

use super::family::Family;
use crate::admin::view_certificates::{stale, staple};
use crate::config::FileKind;
use crate::reconcile::State;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) fn families(edge: &State) -> Vec<Family> {
    let mut all = certificates(edge);
    all.extend(files(edge));
    all.extend(responders(edge));
    all.extend(handshakes(edge));
    all.push(unverified(edge));
    all
}

fn certificates(edge: &State) -> Vec<Family> {
    let mut expiry = Family::gauge("bailey_certificate_expiry_timestamp_seconds", "End of a certificate's validity.");
    let mut not_current = Family::gauge(
        "bailey_certificate_stale",
        "1 while a certificate's files cannot be used and the last good one serves.",
    );
    let mut staples = Family::gauge(
        "bailey_ocsp_staple_expiry_timestamp_seconds",
        "End of the staple that is sent; 0: none is, though the config wants one.",
    );
    for one in &edge.config.certificates {
        let labels = || [("certificate", one.name().to_owned())];
        expiry.add(labels(), unix(one.facts.not_after));
        not_current.add(labels(), u64::from(stale(edge, one.name()).is_some()));
        if one.stapling {
            let sent = staple(edge, one).filter(|staple| staple.response.is_some());
            staples.add(labels(), sent.and_then(|staple| staple.valid_until).map_or(0, unix));
        }
    }
    vec![expiry, not_current, staples]
}

fn files(edge: &State) -> Vec<Family> {
    let mut not_current =
        Family::gauge("bailey_stale_files", "Files that cannot be used; what they held before serves.");
    for kind in
        [FileKind::Certificate, FileKind::Authorities, FileKind::Crl, FileKind::TicketKeys, FileKind::SessionKeys]
    {
        let count = edge.tls.stale.iter().filter(|stale| stale.kind == kind).count();
        not_current.add([("kind", kind.as_str().into())], count as u64);
    }
    let mut reloads =
        Family::counter("bailey_certificate_reloads_total", "Readings of the files of certificates, by result.");
    reloads.add([("result", "applied".into())], edge.tls.refreshes.0);
    reloads.add([("result", "refused".into())], edge.tls.refreshes.1);
    let mut tickets = Family::gauge(
        "bailey_ticket_keys_timestamp_seconds",
        "When the keys of session tickets became the current ones.",
    );
    if let Some(since) = edge.tls.tickets_since {
        tickets.add([], unix(since));
    }
    vec![not_current, reloads, tickets]
}

fn responders(edge: &State) -> Vec<Family> {
    let mut fetches = Family::counter("bailey_ocsp_fetches_total", "Answers of OCSP responders.");
    for (used, result, count) in edge.tls.ocsp.read() {
        fetches.add([("use", used.into()), ("result", result.into())], count);
    }
    let mut dropped = Family::counter(
        "bailey_ocsp_dropped_total",
        "Questions about client certificates, and answers, lost to a full queue.",
    );
    dropped.add([], edge.tls.ocsp.read_dropped());
    vec![fetches, dropped]
}

fn handshakes(edge: &State) -> Vec<Family> {
    let mut active = Family::gauge("bailey_tls_handshakes_active", "TLS handshakes under way.");
    let mut waiting =
        Family::gauge("bailey_tls_handshakes_waiting", "TLS handshakes that wait for their turn to compute.");
    let mut queued =
        Family::counter("bailey_tls_handshakes_queued_total", "TLS handshakes that had to wait for their turn.");
    for thread in &edge.worker.report.threads {
        let cpu = thread.cpu.map(|cpu| cpu.to_string()).unwrap_or_default();
        let labels = [("worker", thread.index.to_string()), ("cpu", cpu)];
        active.add(labels.clone(), thread.handshakes_active);
        waiting.add(labels.clone(), thread.handshakes_waiting);
        queued.add(labels, thread.handshakes_queued);
    }
    vec![active, waiting, queued]
}

fn unverified(edge: &State) -> Family {
    let mut family = Family::gauge(
        "bailey_backend_tls_unverified",
        "1 where TLS to a pool's backends verifies neither chain nor name.",
    );
    for pool in &edge.config.pools {
        if let Some(tls) = &pool.tls {
            family.add([("pool", pool.name.clone())], u64::from(!tls.verify));
        }
    }
    family
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
