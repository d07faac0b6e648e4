//! `bailey-worker`: started by `bailey run`, with the control socket as its standard input. It gives up what it has
//! no use for ([`tls_worker::confine`]), and then does what [`tls_worker::control`] is told.

use anyhow::{Context, bail};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use std::fs::File;
use std::os::fd::AsFd;
use tls_worker::confine::confine;
use tls_worker::control;
use tokio::net::UnixStream;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    // It was started through a descriptor, whose number would be its name.
    rustix::thread::set_name(c"bailey-worker").context("name")?;
    refuse_root()?;
    keep_memory_private()?;
    raise_open_files();
    let socket = control_socket()?;
    let confinement = confine().context("confinement")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("control runtime")?;
    runtime.block_on(async {
        let socket = UnixStream::from_std(socket).context("control socket")?;
        control::run(socket, confinement, log_to_stderr).await.context("bailey-worker")
    })
}

/// The worker parses hostile bytes: it must not be root, nor become it.
fn refuse_root() -> anyhow::Result<()> {
    let allowed = std::env::args().skip(1).any(|a| a == "--allow-root");
    if rustix::process::geteuid().is_root() && !allowed {
        bail!(
            "started as root: the control plane starts the worker as another user (a developer may say --allow-root)"
        );
    }
    Ok(())
}

/// Private keys are in this memory: no core dump holds it, and no other process of the same user may look into it.
fn keep_memory_private() -> anyhow::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).context("limit of core dumps")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("not to be dumped")
}

/// Each connection takes a descriptor, its backend's another.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("bailey-worker: the limit of open files stays as it is: {error}");
    }
}

/// Standard input is the control socket; /dev/null takes its place, so that nothing else reads from it.
fn control_socket() -> anyhow::Result<std::os::unix::net::UnixStream> {
    let stdin = std::io::stdin();
    let socket = stdin.as_fd().try_clone_to_owned().context("standard input")?;
    if rustix::net::sockopt::socket_domain(&socket).ok() != Some(rustix::net::AddressFamily::UNIX) {
        bail!("standard input is no Unix socket: the worker is started by `bailey run`, not by hand");
    }
    rustix::stdio::dup2_stdin(File::open("/dev/null").context("/dev/null")?).context("standard input")?;
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true).context("control socket")?;
    Ok(socket)
}

fn log_to_stderr(filter: Option<&str>) {
    let filter = EnvFilter::try_new(filter.unwrap_or("info")).unwrap_or_else(|error| {
        eprintln!("bailey-worker: log filter: {error}; taking \"info\"");
        EnvFilter::new("info")
    });
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
