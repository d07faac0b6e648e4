//! The demo: an edge between a client and two backends, what it does with their packets, and what it does when a
//! backend is drained and the worker is killed. Exit code 0 only when each step held.

mod stage;
mod story;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use anyhow::{Context, Result};
use clap::Parser;
use lb_tests::edge::Edge;
use lb_tests::netns::{self, runtime};

use stage::Stage;

static STAYS: AtomicBool = AtomicBool::new(false);

/// Run an edge on real packets and show what it does.
#[derive(Parser)]
struct Args {
    /// Leave everything up until Ctrl-C, and print commands to play with
    #[arg(long)]
    stay: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let (interrupt, interrupted) = mpsc::channel();
    std::thread::spawn(move || on_interrupt(&interrupt));
    match demo(args.stay.then_some(&interrupted)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\ndid not hold: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// While the demo stays up Ctrl-C lets it end in order; before that it ends everything at once.
fn on_interrupt(staying: &mpsc::Sender<()>) {
    if runtime().and_then(|runtime| Ok(runtime.block_on(tokio::signal::ctrl_c())?)).is_err() {
        return;
    }
    if STAYS.load(Ordering::Acquire) {
        // The receiver lives as long as the demo stays.
        let _ = staying.send(());
        return;
    }
    println!("\ninterrupted: taking everything away");
    netns::abandon();
    std::process::exit(130);
}

fn demo(stay: Option<&mpsc::Receiver<()>>) -> Result<()> {
    let stage = Stage::set()?;
    stage.introduce();
    let backends = stage.start_backends()?;
    let mut edge: Edge = stage.start_edge(&backends)?;
    let told = story::tell(&stage, &edge, &backends);
    if let Err(error) = told {
        println!("\n--- the edge's log ---\n{}", edge.log());
        return Err(error);
    }
    if let Some(interrupted) = stay {
        STAYS.store(true, Ordering::Release);
        stage.invite();
        interrupted.recv().context("nobody listens for Ctrl-C")?;
    }
    story::end(&stage, &mut edge)
}
