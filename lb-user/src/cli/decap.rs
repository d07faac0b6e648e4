//! `bailey decap`: a backend's side of `ipip`, in the foreground.

use super::say;
use crate::datapath::{Decap, DecapCounters, DecapOptions};
use crate::run::RunError;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Decapsulate until SIGINT or SIGTERM, then say what came of it.
pub(super) fn run(options: DecapOptions, json: bool) -> ExitCode {
    crate::run::log_to_stderr("info", say::stderr_is_coloured());
    if let Err(error) = crate::privileges::reduce_for_decap() {
        return say::fail(error, None, json);
    }
    let result = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(until_told(options)),
        Err(error) => Err(RunError::Signals(error)),
    };
    match result {
        Ok(counters) => {
            print(counters, json);
            ExitCode::SUCCESS
        }
        Err(error) => {
            let hint = "it needs root, an interface of this host (ip link), and the BPF of Linux 5.18 or later";
            say::fail(error, Some(hint), json)
        }
    }
}

async fn until_told(options: DecapOptions) -> Result<DecapCounters, RunError> {
    // Signals are taken before anything is attached, so that whatever ends this takes it out again.
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let interface = options.interface.clone();
    let decap = Decap::open(options).await?;
    tracing::info!(interface, "decapsulating");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let counters = decap.counters();
    decap.close().await?;
    Ok(counters?)
}

fn print(counters: DecapCounters, json: bool) {
    let DecapCounters { taken_off, other, malformed } = counters;
    if json {
        say::print_json(&serde_json::json!({ "taken_off": taken_off, "other": other, "malformed": malformed }), true);
    } else {
        say::print(&format!("outer headers taken off {taken_off}, other packets {other}, malformed {malformed}\n"));
    }
}
