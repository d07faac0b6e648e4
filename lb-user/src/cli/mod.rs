//! The command line: `bailey VERB`. Exit codes: 0 done, 1 refused or unhealthy, 2 usage.

mod again;
mod args;
mod args_cert;
mod args_change;
mod args_session;
mod args_tools;
mod cert;
mod changes;
mod daemon;
mod decap;
mod doctor;
mod drain;
mod import;
mod live;
mod man;
mod route;
mod save;
mod save_edit;
#[cfg(test)]
mod save_tests;
mod say;
mod screen;
mod sessions;
mod table;
mod table_cert;
mod table_certificates;
mod table_forward;
mod table_health;
mod table_names;
#[cfg(test)]
mod tests;
mod top;
mod trace;
mod verbs;

use crate::datapath::DecapOptions;
use args::{CertVerb, Cli, RouteVerb, Verb};
use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use std::process::ExitCode;

/// Parse the arguments and do what they say.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    say::choose(cli.color);
    if cli.watch.is_some() && !again::looks(&cli.verb) {
        let error = "--watch is for what lists or shows; this is done once";
        Cli::command().error(ErrorKind::ArgumentConflict, error).exit();
    }
    match cli.verb {
        Verb::Run { config, take_over } => daemon::run(config, take_over),
        Verb::Check { config } => daemon::check(&config, cli.json),
        Verb::Decap { interface, addresses, generic } => {
            decap::run(DecapOptions { interface, addresses, native: !generic }, cli.json)
        }
        Verb::Cert(CertVerb::Files(verb)) => cert::run(verb, cli.json),
        Verb::Route(RouteVerb::Test(test)) => route::test(&test, cli.json),
        Verb::Completions { shell } => man::completions(shell),
        Verb::Doctor { config } => doctor::run(config, &cli.socket, cli.json),
        Verb::Import(verb) => import::run(verb, cli.json),
        Verb::Man { directory } => man::pages(&directory, cli.json),
        verb => verbs::ask(verb, &cli.socket, cli.json, cli.watch),
    }
}
