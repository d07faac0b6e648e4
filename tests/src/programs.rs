//! Other people's programs as clients: run to their end, with a deadline, and all that they said kept.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::need::find;

/// Seconds that a program may take, unless said otherwise.
const SECONDS: u32 = 20;

/// What a program said.
#[derive(Debug, Clone)]
pub struct Said {
    /// Exit code; none: killed.
    pub code: Option<i32>,
    /// Standard output and error.
    pub text: String,
}

impl Said {
    /// Did it say this?
    pub fn has(&self, what: &str) -> bool {
        self.text.contains(what)
    }

    /// Has an HTTP answer of this status come back?
    pub fn status(&self, code: u16) -> bool {
        self.has(&format!("HTTP/1.1 {code} ")) || self.has(&format!("HTTP/2 {code}"))
    }
}

/// Run a program of [`find`] with `input` on its standard input.
pub fn run(program: &str, arguments: &[&str], input: &str) -> Result<Said> {
    run_for(SECONDS, program, arguments, input)
}

/// The same; it is killed after so many seconds, which is an error of its own code (124).
pub fn run_for(seconds: u32, program: &str, arguments: &[&str], input: &str) -> Result<Said> {
    let file = find(program).with_context(|| format!("no program `{program}`"))?;
    let mut command = Command::new("timeout");
    command.args(["-k", "2", &seconds.to_string()]).arg(file).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
    // Open until the end: some take the end of their input for the end of the conversation.
    let mut stdin = child.stdin.take().context("no standard input")?;
    // One that ended before it read everything says why by itself.
    let _ = stdin.write_all(input.as_bytes());
    let out = child.wait_with_output()?;
    let text = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
    Ok(Said { code: out.status.code(), text })
}

/// A GET that asks for the end of the connection after its answer.
pub fn request(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

/// `openssl s_client` that trusts `ca`: a handshake, `input`, and what comes back until the other side closes.
pub fn s_client(to: SocketAddr, ca: &Path, arguments: &[&str], input: &str) -> Result<Said> {
    let (to, ca) = (to.to_string(), ca.to_string_lossy());
    let words = ["s_client", "-connect", &to, "-CAfile", &ca, "-verify_return_error", "-ign_eof"];
    run("openssl", &[&words, arguments].concat(), input)
}

/// `gnutls-cli` that trusts `ca`, with this priority string, the same way.
pub fn gnutls(to: SocketAddr, host: &str, ca: &Path, priority: &str, more: &[&str]) -> Result<Said> {
    let (port, ca) = (to.port().to_string(), ca.to_string_lossy());
    let (sni, verify) = (format!("--sni-hostname={host}"), format!("--verify-hostname={host}"));
    let words = ["--port", &port, &sni, &verify, "--x509cafile", &ca, "--priority", priority];
    let address = to.ip().to_string();
    run("gnutls-cli", &[&words[..], more, &[&address]].concat(), &request(host, "/"))
}

/// `curl` that trusts `ca` and looks every host of `hosts` up as `to`'s address, with its headers in the output.
pub fn curl(to: SocketAddr, hosts: &[&str], ca: &Path, arguments: &[&str]) -> Result<Said> {
    let ca = ca.to_string_lossy();
    let resolve: Vec<String> = hosts.iter().map(|host| format!("{host}:{}:{}", to.port(), to.ip())).collect();
    let mut words = vec!["-sS", "-i", "--cacert", &ca];
    words.extend(resolve.iter().flat_map(|entry| ["--resolve", entry.as_str()]));
    words.extend(arguments);
    run("curl", &words, "")
}

/// A handshake by OpenSSL 3.5 or later (pyOpenSSL) with its own choice of groups, and one GET. It says
/// `version=… group=… cipher=…`, then what came back.
pub fn newest_openssl(to: SocketAddr, host: &str, ca: &Path) -> Result<Said> {
    const SCRIPT: &str = r#"
import socket, sys
from OpenSSL import SSL
address, port, host, ca, request = sys.argv[1:6]
context = SSL.Context(SSL.TLS_CLIENT_METHOD)
context.load_verify_locations(ca)
context.set_verify(SSL.VERIFY_PEER)
plain = socket.create_connection((address, int(port)), 10)
plain.settimeout(None)
tls = SSL.Connection(context, plain)
tls.set_tlsext_host_name(host.encode())
tls.set_connect_state()
tls.do_handshake()
print(SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode())
print(f"version={tls.get_protocol_version_name()} group={tls.get_group_name()} cipher={tls.get_cipher_name()}")
tls.sendall(request.encode())
try:
    while True:
        sys.stdout.write(tls.recv(65536).decode())
except (SSL.ZeroReturnError, SSL.SysCallError):
    pass
"#;
    let (address, port, ca) = (to.ip().to_string(), to.port().to_string(), ca.to_string_lossy());
    let python = crate::need::venv()?.join("bin/python");
    let request = request(host, "/");
    run(&python.to_string_lossy(), &["-c", SCRIPT, &address, &port, host, &ca, &request], "")
}
