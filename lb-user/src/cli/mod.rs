//! The command line: `bailey VERB`. Exit codes: 0 done, 1 refused or unhealthy, 2 usage.

mod args;
mod args_cert;
mod args_session;
mod cert;
mod daemon;
mod decap;
mod live;
mod route;
mod sessions;
mod table;
mod table_cert;
mod table_certificates;
mod table_forward;
#[cfg(test)]
mod tests;
mod verbs;

use crate::datapath::DecapOptions;
use args::{CertVerb, Cli, RouteVerb, Verb};
use clap::{CommandFactory as _, Parser as _};
use std::process::ExitCode;

/// Parse the arguments and do what they say.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.verb {
        Verb::Run { config, take_over } => daemon::run(config, take_over),
        Verb::Check { config } => daemon::check(&config, cli.json),
        Verb::Decap { interface, addresses, generic } => {
            decap::run(DecapOptions { interface, addresses, native: !generic }, cli.json)
        }
        Verb::Cert(CertVerb::Files(verb)) => cert::run(verb, cli.json),
        Verb::Route(RouteVerb::Test(test)) => route::test(&test, cli.json),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "bailey", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        verb => verbs::ask(verb, &cli.socket, cli.json),
    }
}
