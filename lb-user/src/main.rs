//! `bailey`: the daemon and its command line.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_user::cli::main()
}
