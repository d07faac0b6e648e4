//! The worker's layers, each by itself: what one refuses, the other is not asked for.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use anyhow::Result;
use lb_tests::lab::folder;

use crate::{attempt, expect};

/// The signal that ends who makes a call of another's (SIGSYS).
const SIGSYS: &str = "signal 31";

pub(crate) fn files() -> Result<()> {
    let folder = folder()?;
    let file = folder.path().join("file");
    let file = file.to_str().unwrap_or_default();
    let us = std::process::id().to_string();
    let backend = TcpListener::bind("127.0.0.1:0")?;
    let backend = backend.local_addr()?.to_string();
    let abstract_name = format!("bailey-{us}");
    let _local = UnixListener::bind_addr(&SocketAddr::from_abstract_name(abstract_name.as_bytes())?)?;
    // Without it, all of this is possible.
    expect(
        &["nothing"],
        &[(&["read", "/etc/passwd"], "ok"), (&["write", file], "ok"), (&["listen", "127.0.0.1:0"], "ok")],
    )?;
    let who = ["files"];
    expect(
        &who,
        &[
            (&["read", "/etc/passwd"], "EACCES"),
            (&["read", "/proc/self/maps"], "EACCES"),
            (&["read", "/"], "EACCES"),
            (&["write", file], "EACCES"),
            (&["exec", "/bin/true"], "EACCES"),
            (&["connect", &backend], "ok"),
        ],
    )?;
    let abi = abi()?;
    if abi >= 4 {
        expect(&who, &[(&["listen", "127.0.0.1:0"], "EACCES")])?;
    }
    if abi >= 6 {
        expect(&who, &[(&["signal", &us], "EPERM"), (&["abstract-socket", &abstract_name], "EPERM")])?;
    }
    Ok(())
}

pub(crate) fn calls() -> Result<()> {
    let us = std::process::id().to_string();
    expect(
        &["calls"],
        &[
            (&["read", "/etc/passwd"], "EPERM"),
            (&["write", "/tmp/bailey-attempt"], "EPERM"),
            (&["status", "/etc/passwd"], "EPERM"),
            (&["listen", "127.0.0.1:0"], "EPERM"),
            (&["datagrams"], "EPERM"),
            (&["local-socket", "/run/bailey/admin.sock"], "EPERM"),
            (&["raw-socket"], "EPERM"),
            (&["datagram-pair"], "EPERM"),
            (&["stream-pair"], "ok"),
            (&["signal", &us], "EPERM"),
            (&["become-other"], "EPERM"),
            (&["fork"], "EPERM"),
            (&["code"], "EPERM"),
            // What only somebody would try who is no worker any more.
            (&["exec", "/bin/true"], SIGSYS),
            (&["ptrace"], SIGSYS),
            (&["bpf"], SIGSYS),
            (&["namespace"], SIGSYS),
            (&["module"], SIGSYS),
            (&["mount", "/tmp"], SIGSYS),
        ],
    )
}

pub(crate) fn uses() -> Result<()> {
    let backend = TcpListener::bind("127.0.0.1:0")?;
    let address = backend.local_addr()?.to_string();
    expect(
        &["worker"],
        &[
            (&["connect", &address], "ok"),
            (&["thread"], "ok"),
            (&["memory"], "ok"),
            (&["random"], "ok"),
            (&["abort"], "signal 6"),
            (&["read", "/etc/passwd"], "EPERM"),
            (&["exec", "/bin/true"], SIGSYS),
        ],
    )
}

/// Version of this kernel's Landlock.
fn abi() -> Result<u32> {
    Ok(attempt(&["nothing", "landlock"])?.parse()?)
}
