//! The system calls that are left.
//!
//! What the worker uses is allowed, by its arguments where these decide. What only somebody else would use (start a
//! program, look into a process, change namespaces) ends the process: it is no longer the one that was started. Everything
//! else is refused with EPERM, so that a library which tries something new finds that it is not there and goes on.

use seccompiler::SeccompAction::{self, Allow, Errno, KillProcess};
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{BackendError, BpfProgram, Error, SeccompCondition, SeccompFilter, SeccompRule, apply_filter};
use std::collections::BTreeMap;

/// A call by number, and the arguments by which it is meant; none: by any.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Install the filters. The allow list comes last: it refuses the call that installs one.
pub(super) fn apply() -> Result<(), Error> {
    install(rules(FATAL), Allow, KillProcess)?;
    // Its flags lie in memory, where no filter looks: the library is told to use `clone`.
    install(rules(&[libc::SYS_clone3]), Allow, Errno(libc::ENOSYS as u32))?;
    let mut allowed = rules(ALLOWED);
    allowed.extend(rules(OF_THIS_MACHINE));
    allowed.extend(by_arguments().map_err(Error::Backend)?);
    install(allowed, Errno(libc::EPERM as u32), Allow)
}

fn install(rules: Rules, otherwise: SeccompAction, then: SeccompAction) -> Result<(), Error> {
    let filter = SeccompFilter::new(rules, otherwise, then, std::env::consts::ARCH.try_into().map_err(Error::Backend)?);
    let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(Error::Backend)?;
    apply_filter(&program)
}

fn rules(calls: &[i64]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

/// Any of these ends the process.
const FATAL: &[i64] = &[
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
];

/// Whatever their arguments.
const ALLOWED: &[i64] = &[
    // Connections and pipes.
    libc::SYS_accept4,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_pipe2,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_splice,
    libc::SYS_write,
    libc::SYS_writev,
    // Waiting.
    libc::SYS_clock_nanosleep,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads and signals of its own.
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    // What it may know.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_fstat,
    libc::SYS_getcpu,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// Older names of these, which newer machines no longer have.
#[cfg(target_arch = "x86_64")]
const OF_THIS_MACHINE: &[i64] = &[libc::SYS_epoll_wait, libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const OF_THIS_MACHINE: &[i64] = &[];

/// `linux/prctl.h`.
const PR_GET_AUXV: i32 = 0x4155_5856;

/// Those whose arguments decide.
fn by_arguments() -> Result<Rules, BackendError> {
    let us = u64::from(std::process::id());
    let no_code = || rule(&[(2, MaskedEq(libc::PROT_EXEC as u64), 0)]);
    let socket = |domain: i32| {
        // The type's upper bits are SOCK_NONBLOCK and SOCK_CLOEXEC.
        rule(&[(0, Eq, domain as u64), (1, MaskedEq(0xf), libc::SOCK_STREAM as u64)])
    };
    let of_descriptor = |flags| rule(&[(flags, MaskedEq(libc::AT_EMPTY_PATH as u64), libc::AT_EMPTY_PATH as u64)]);
    let prctl = |option: i32| rule(&[(0, Eq, option as u64)]);
    let ioctl = |request: u64| rule(&[(1, Eq, request)]);
    Ok(Rules::from([
        // Threads, no processes.
        (libc::SYS_clone, vec![rule(&[(0, MaskedEq(libc::CLONE_THREAD as u64), libc::CLONE_THREAD as u64)])?]),
        // No memory becomes code.
        (libc::SYS_mmap, vec![no_code()?]),
        (libc::SYS_mprotect, vec![no_code()?]),
        // TCP to backends. Names are not resolved, and nobody else on this host is spoken to.
        (libc::SYS_socket, vec![socket(libc::AF_INET)?, socket(libc::AF_INET6)?]),
        // Signals wake the runtime by a pair of streams. One of datagrams could send to any socket that has a path.
        (
            libc::SYS_socketpair,
            vec![rule(&[(0, Eq, libc::AF_UNIX as u64), (1, MaskedEq(0xf), libc::SOCK_STREAM as u64)])?],
        ),
        (libc::SYS_ioctl, vec![ioctl(libc::FIONBIO)?, ioctl(libc::FIOCLEX)?, ioctl(libc::FIONREAD)?]),
        // Names of threads; where the clock is that needs no call.
        (libc::SYS_prctl, vec![prctl(libc::PR_SET_NAME)?, prctl(PR_GET_AUXV)?]),
        // Limits are read, of its own alone.
        (libc::SYS_prlimit64, vec![long(&[(0, Eq, 0), (2, Eq, 0)])?]),
        // What a descriptor is (a pipe?): the library asks so. It is all that is left of the file system.
        (libc::SYS_newfstatat, vec![of_descriptor(3)?]),
        (libc::SYS_statx, vec![of_descriptor(2)?]),
        // How it aborts.
        (libc::SYS_tgkill, vec![rule(&[(0, Eq, us)])?]),
    ]))
}

type Argument = (u8, seccompiler::SeccompCmpOp, u64);

/// By the lower halves of arguments: the kernel takes no more of these.
fn rule(arguments: &[Argument]) -> Result<SeccompRule, BackendError> {
    conditions(arguments, || Dword)
}

/// By whole arguments: pointers.
fn long(arguments: &[Argument]) -> Result<SeccompRule, BackendError> {
    conditions(arguments, || Qword)
}

fn conditions(
    arguments: &[Argument],
    length: impl Fn() -> seccompiler::SeccompCmpArgLen,
) -> Result<SeccompRule, BackendError> {
    let one = |(place, compare, value): &Argument| SeccompCondition::new(*place, length(), compare.clone(), *value);
    SeccompRule::new(arguments.iter().map(one).collect::<Result<_, _>>()?)
}
