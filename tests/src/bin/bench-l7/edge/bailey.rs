//! Bailey: control plane and worker, one worker thread, ordinary sockets.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use lb_tests::process::Process;

use super::{Addresses, write};
use crate::lab::Lab;
use crate::process;

/// The worker's program.
const WORKER: &str = "bailey-worker";

pub(super) fn version(lab: &Lab) -> Result<String> {
    process::version(&program(lab, "bailey")?, "--version")
}

pub(super) fn start(lab: &Lab, directory: &Path, addresses: &Addresses) -> Result<Process> {
    program(lab, WORKER)?;
    let config = directory.join("bailey.toml");
    write(&config, &configuration(lab, directory, addresses))?;
    let args = ["run".as_ref(), "--config".as_ref(), config.as_os_str()];
    process::pinned("bailey", lab.edge_cpu, directory, &program(lab, "bailey")?, args)
}

fn program(lab: &Lab, name: &str) -> Result<PathBuf> {
    let path = lab.programs.join(name);
    if !path.is_file() {
        bail!("{} is missing: cargo build --release -p lb-user -p tls-worker, or --peers-only", path.display());
    }
    path.canonicalize().with_context(|| format!("cannot see {}", path.display()))
}

fn configuration(lab: &Lab, directory: &Path, addresses: &Addresses) -> String {
    format!(
        "[edge]
name = \"bench-{id}\"
datapath = \"sockets\"
cpus = [{cpu}]
log = \"warn\"
worker_binary = {worker:?}

[admin]
socket = {socket:?}

[certificate.p256]
chain = {p256_chain:?}
key = {p256_key:?}

[certificate.rsa]
chain = {rsa_chain:?}
key = {rsa_key:?}

[service.p256]
addresses = [\"{p256}\"]
mode = \"https\"
certificates = [\"p256\"]
pool = \"origin\"
timeouts.idle = \"600s\"

[service.rsa]
addresses = [\"{rsa}\"]
mode = \"https\"
certificates = [\"rsa\"]
pool = \"origin\"
timeouts.idle = \"600s\"

[pool.origin]
backends = [\"{origin}\"]
max_idle = 128
timeouts.keepalive = \"600s\"
",
        id = std::process::id(),
        cpu = lab.edge_cpu,
        worker = lab.programs.join(WORKER),
        socket = directory.join("admin.sock"),
        p256_chain = lab.pki.p256.chain,
        p256_key = lab.pki.p256.key,
        rsa_chain = lab.pki.rsa.chain,
        rsa_key = lab.pki.rsa.key,
        p256 = addresses.p256,
        rsa = addresses.rsa,
        origin = lab.origin.address,
    )
}
