//! Families of compressed answers.

use super::family::Family;
use crate::reconcile::State;

pub(super) fn families(edge: &State) -> Vec<Family> {
    let mut responses =
        Family::counter("bailey_compressed_responses_total", "Answers that were compressed, by coding.");
    let mut bytes = Family::counter(
        "bailey_compressed_bytes_total",
        "Bytes of their bodies before (`in`) and after (`out`) compression.",
    );
    let mut busy = Family::counter(
        "bailey_compression_busy_total",
        "Answers that went as they were because the thread compressed enough others.",
    );
    for service in &edge.worker.report.services {
        let name = || ("service", service.service.clone());
        for row in &service.compression {
            let coding = || ("coding", row.coding.name().to_owned());
            responses.add([name(), coding()], row.responses);
            bytes.add([name(), coding(), ("direction", "in".to_owned())], row.bytes_in);
            bytes.add([name(), coding(), ("direction", "out".to_owned())], row.bytes_out);
        }
        busy.add([name()], service.compression_busy);
    }
    vec![responses, bytes, busy]
}
