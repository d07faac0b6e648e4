//! What is tried.

use std::fs::File;
use std::io::{Error, Result as IoResult};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use lb_user::privileges;
use rustix::process::Signal;

/// Somebody else: nobody.
const OTHER: u32 = 65534;

/// Try it.
pub(crate) fn act(what: &str, arguments: &[&str]) -> Result<IoResult<String>> {
    let argument = || arguments.first().copied().with_context(|| format!("{what} what?"));
    Ok(match what {
        "read" => File::open(argument()?).map(done),
        "write" => File::create(argument()?).map(done),
        "status" => std::fs::metadata(argument()?).map(done),
        "connect" => TcpStream::connect(argument()?).map(done),
        "listen" => TcpListener::bind(argument()?).map(done),
        "datagrams" => UdpSocket::bind("127.0.0.1:0").map(done),
        "local-socket" => UnixStream::connect(argument()?).map(done),
        "abstract-socket" => {
            SocketAddr::from_abstract_name(argument()?).and_then(|name| UnixStream::connect_addr(&name)).map(done)
        }
        "stream-pair" => UnixStream::pair().map(done),
        "datagram-pair" => UnixDatagram::pair().map(done),
        "raw-socket" => raw_socket(),
        "exec" => Err(Command::new(argument()?).exec()),
        "fork" => call(libc::SYS_clone, [libc::SIGCHLD as i64, 0, 0, 0, 0, 0]),
        "thread" => std::thread::Builder::new().spawn(|| 7).map(|thread| done(thread.join())),
        "ptrace" => call(libc::SYS_ptrace, [libc::PTRACE_TRACEME as i64, 0, 0, 0, 0, 0]),
        "bpf" => call(libc::SYS_bpf, [0, 0, 0, 0, 0, 0]),
        "namespace" => call(libc::SYS_unshare, [i64::from(libc::CLONE_NEWUSER), 0, 0, 0, 0, 0]),
        "module" => call(libc::SYS_init_module, [0, 0, 0, 0, 0, 0]),
        "code" => code(),
        "memory" => Ok(done(vec![1_u8; 64 << 20].len())),
        "random" => random(),
        "landlock" => landlock(),
        "signal" => signal_directly(argument()?.parse()?),
        "abort" => std::process::abort(),
        "become-other" => call(libc::SYS_setuid, [i64::from(OTHER), 0, 0, 0, 0, 0]),
        "give-away" => std::os::unix::fs::chown(argument()?, Some(OTHER), None).map(done),
        "mount" => {
            let data: Option<&std::ffi::CStr> = None;
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("none", argument()?, "tmpfs", flags, data).map(done).map_err(Error::from)
        }
        "start-as-other" => Command::new("/bin/true").uid(OTHER).gid(OTHER).status().map(done),
        "launch-as-other" => launched("other"),
        "launch-successor" => launched("successor"),
        "signal-by-launcher" => privileges::signal(argument()?.parse()?, Signal::TERM).map(done),
        other => bail!("what is {other:?}?"),
    })
}

fn done<T>(_: T) -> String {
    "ok".into()
}

fn call(number: i64, arguments: [i64; 6]) -> IoResult<String> {
    answer(number, arguments).map(done)
}

/// A call of the kernel with plain numbers.
fn answer(number: i64, arguments: [i64; 6]) -> IoResult<i64> {
    let [a, b, c, d, e, f] = arguments;
    #[expect(unsafe_code, reason = "no library makes calls that are meant to be refused")]
    // SAFETY: no argument is a pointer but null, so none of the calls here writes to memory that somebody uses; what is
    // mapped lies where the kernel chooses. A child of `fork` goes on with a copy of everything, and ends as this does.
    let answer = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if answer < 0 { Err(Error::last_os_error()) } else { Ok(answer) }
}

/// Memory that is written and then run.
fn code() -> IoResult<String> {
    let may = i64::from(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC);
    call(libc::SYS_mmap, [0, 4096, may, i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS), -1, 0])
}

/// Bytes from the kernel, by the library that makes keys of them.
fn random() -> IoResult<String> {
    use ring::rand::SecureRandom;
    ring::rand::SystemRandom::new().fill(&mut [0; 32]).map(done).map_err(|_| Error::other("no random bytes"))
}

/// Version of the kernel's Landlock.
fn landlock() -> IoResult<String> {
    const VERSION: i64 = 1; // LANDLOCK_CREATE_RULESET_VERSION, linux/landlock.h
    answer(libc::SYS_landlock_create_ruleset, [0, 0, VERSION, 0, 0, 0]).map(|version| version.to_string())
}

fn raw_socket() -> IoResult<String> {
    use rustix::net::{AddressFamily, SocketType, ipproto, socket};
    socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).map(done).map_err(Error::from)
}

fn signal_directly(pid: i32) -> IoResult<String> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or_else(|| Error::other("no process has the id 0"))?;
    rustix::process::kill_process(pid, Signal::TERM).map(done).map_err(Error::from)
}

/// What a process says of itself that was started as the control plane starts a worker, or its successor.
fn launched(whom: &str) -> IoResult<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut command = tokio::process::Command::new("/bin/cat");
        command.arg("/proc/self/status").stdout(std::process::Stdio::piped());
        let child = if whom == "other" {
            command.uid(OTHER).gid(OTHER);
            privileges::spawn(command)?
        } else {
            privileges::spawn_successor(command)?
        };
        let output = child.wait_with_output().await?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    })
}
