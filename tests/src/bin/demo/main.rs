//! The demo: an edge between a client and two backends, what it does with their packets, and what it does when a
//! backend is drained and the worker is killed. Exit code 0 only when each step held.

mod stage;
mod story;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use lb_tests::edge::Edge;
use lb_tests::netns::{self, runtime};

use stage::Stage;

/// Run an edge on real packets and show what it does.
#[derive(Parser)]
struct Args {
    /// Leave everything up until Ctrl-C, and print commands to play with
    #[arg(long)]
    stay: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    std::thread::spawn(|| {
        if runtime().and_then(|runtime| Ok(runtime.block_on(tokio::signal::ctrl_c())?)).is_ok() {
            println!("\ninterrupted: taking everything away");
            netns::abandon();
            std::process::exit(130);
        }
    });
    match demo(args.stay) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\ndid not hold: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(stay: bool) -> Result<()> {
    let stage = Stage::set()?;
    stage.introduce();
    let backends = stage.start_backends()?;
    let mut edge: Edge = stage.start_edge(&backends)?;
    let told = story::tell(&stage, &edge, &backends);
    if let Err(error) = told {
        println!("\n--- the edge's log ---\n{}", edge.log());
        return Err(error);
    }
    if stay {
        stage.invite();
        // Until Ctrl-C, which ends the process from the thread that waits for it.
        loop {
            std::thread::park();
        }
    }
    story::end(&stage, &mut edge)
}
