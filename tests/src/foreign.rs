//! Somebody else's XDP program on an interface: two instructions, loaded and attached with bpf(2) itself, so that
//! nothing of it comes from this workspace.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};

use crate::netns::Namespace;

/// Name that the kernel keeps for the program.
pub const NAME: &str = "somebody_else";

// linux/bpf.h
const BPF_PROG_LOAD: i64 = 5;
const BPF_LINK_CREATE: i64 = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;

/// The attached program; both are gone when dropped.
#[derive(Debug)]
pub struct Foreign {
    _program: OwnedFd,
    _link: OwnedFd,
}

/// Attach a program that passes every packet.
pub fn attach(space: &Namespace, interface: &str) -> Result<Foreign> {
    let index = index(space, interface)?;
    space.run(|| attach_here(index).with_context(|| format!("attach to {interface}")))
}

/// The same on the interface of this index in the network namespace of this thread.
pub fn attach_here(index: u32) -> Result<Foreign> {
    let program = load()?;
    let attr = LinkCreate { program: program.as_raw_fd() as u32, target: index, attach_type: BPF_XDP, flags: 0 };
    let link = bpf(BPF_LINK_CREATE, &attr).context("attach a two-instruction XDP program")?;
    Ok(Foreign { _program: program, _link: link })
}

// Not from /sys: the one that is mounted shows the host's own namespace.
fn index(space: &Namespace, interface: &str) -> Result<u32> {
    let text = space.output("ip", &["-o", "link", "show", "dev", interface])?;
    text.split(':').next().context("no index in ip's answer")?.trim().parse().context("index in ip's answer")
}

#[repr(C)]
struct ProgLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

fn load() -> Result<OwnedFd> {
    // mov64 r0, XDP_PASS; exit
    let code: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];
    let mut name = [0; 16];
    name[..NAME.len()].copy_from_slice(NAME.as_bytes());
    let attr = ProgLoad {
        program_type: BPF_PROG_TYPE_XDP,
        instruction_count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name,
    };
    bpf(BPF_PROG_LOAD, &attr).context("load a two-instruction XDP program")
}

/// bpf(2) for the commands that give a descriptor.
fn bpf<T>(command: i64, attr: &T) -> std::io::Result<OwnedFd> {
    // SAFETY: `attr` is a live, initialised `repr(C)` prefix of `union bpf_attr` for this command, its size is given,
    // and the pointers in it outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
