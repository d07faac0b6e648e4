//! `attempt KEEP… WHAT [ARGUMENT]`: gives up what a worker or a control plane gives up, by the same code, and then tries
//! something. It says `ok`, or how the kernel refused; the kernel may also end it.

mod act;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use lb_user::{config, privileges};
use tls_worker::confine;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match attempt(&words) {
        Ok(Ok(said)) => println!("{said}"),
        Ok(Err(error)) => println!("{}", name(&error)),
        Err(error) => {
            eprintln!("attempt: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn attempt(words: &[&str]) -> Result<std::io::Result<String>> {
    let [who, rest @ ..] = words else { bail!("attempt worker|files|calls|edge CONFIG WHAT [ARGUMENT]") };
    let rest = match *who {
        "worker" => {
            let confinement = confine::confine()?;
            // A root that tests has capabilities; the layers below must stand all the same.
            if let Some(lack) = confinement.missing.iter().find(|lack| !lack.starts_with("it ")) {
                bail!("{lack}");
            }
            rest
        }
        "files" => {
            if let Some(lack) = confine::no_files()? {
                bail!("{lack}");
            }
            rest
        }
        "calls" => {
            rustix::thread::set_no_new_privs(true)?;
            confine::few_calls()?;
            rest
        }
        "edge" => {
            let (config, rest) = rest.split_first().context("no config")?;
            privileges::reduce_for_edge(&config::load(config.as_ref())?.config)?;
            rest
        }
        "nothing" => rest,
        other => bail!("who is {other:?}?"),
    };
    let (what, arguments) = rest.split_first().context("what is to be tried?")?;
    act::act(what, arguments)
}

fn name(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => "EPERM".into(),
        Some(libc::EACCES) => "EACCES".into(),
        Some(libc::ENOSYS) => "ENOSYS".into(),
        _ => format!("{error:?}"),
    }
}
