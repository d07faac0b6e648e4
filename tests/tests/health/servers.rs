//! Other people's servers, of which each speaks something else.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lb_tests::here::{Here, free_address};
use lb_tests::need::{find, venv};
use lb_tests::peers::nginx;
use lb_tests::process::Process;
use lb_tests::wait::{PATIENCE, wait_ok};

/// A server that is up.
pub(crate) struct Server {
    pub(crate) at: SocketAddr,
    pub(crate) process: Process,
}

/// nginx as HTTP/1.1, h2c, TLS with h2.
pub(crate) struct Web {
    pub(crate) http: SocketAddr,
    pub(crate) h2c: SocketAddr,
    pub(crate) tls: SocketAddr,
    pub(crate) process: Process,
}

pub(crate) fn web(here: &Here) -> Result<Web> {
    let (http, h2c, tls) = (free_address()?, free_address()?, free_address()?);
    let folder = here.file("web");
    std::fs::create_dir(&folder)?;
    here.authority.issue(&folder, "web", &["web.test"])?;
    let locations = "location / { return 200 \"nothing but good\"; } location /ill { return 503; }\n\
         location /key { if ($http_x_key != \"sesame\") { return 403; } return 204; }\n\
         location /method { if ($request_method != OPTIONS) { return 405; } return 200; }\n\
         location /from { return 200 \"from $remote_addr to $host\"; } location /protocol { return 200 $server_protocol; }";
    let servers = format!(
        "server {{ listen {http}; {locations} }}\nserver {{ listen {h2c} http2; {locations} }}\n\
         server {{ listen {tls} ssl http2; ssl_certificate web.pem; ssl_certificate_key web.key; {locations} }}\n"
    );
    Ok(Web { http, h2c, tls, process: nginx(&folder, &servers, tls)? })
}

/// OpenLDAP, in clear text and over TLS. `cn=admin,dc=test` has the password `secret`.
pub(crate) fn ldap(here: &Here) -> Result<(Server, SocketAddr)> {
    let (at, tls, folder) = (free_address()?, free_address()?, here.file("ldap"));
    std::fs::create_dir_all(folder.join("db"))?;
    here.authority.issue(&folder, "ldap", &["ldap.test"])?;
    let path = folder.display();
    let config = format!(
        "include /etc/ldap/schema/core.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile {path}/pid\n\
         TLSCertificateFile {path}/ldap.pem\nTLSCertificateKeyFile {path}/ldap.key\n\
         database mdb\nsuffix dc=test\nrootdn cn=admin,dc=test\nrootpw secret\ndirectory {path}/db\n"
    );
    let file = folder.join("slapd.conf");
    std::fs::write(&file, config)?;
    let mut command = Command::new(find("slapd").context("no slapd")?);
    command.args(["-d", "0", "-h", &format!("ldap://{at}/ ldaps://{tls}/"), "-f"]).arg(&file);
    let process = ready(Process::start("slapd", &folder, &mut command)?, tls)?;
    Ok((Server { at, process }, tls))
}

/// dnsmasq, which knows `app.test` as 192.0.2.7.
pub(crate) fn names(here: &Here) -> Result<Server> {
    let at = free_address()?;
    let mut command = Command::new(find("dnsmasq").context("no dnsmasq")?);
    command.args(["-k", "-C", "/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces", "--pid-file="]);
    command.args(["--user=root", "--listen-address=127.0.0.1", "--host-record=app.test,192.0.2.7", "--local=/test/"]);
    command.arg(format!("--port={}", at.port()));
    let process = ready(Process::start("dnsmasq", here.folder(), &mut command)?, at)?;
    Ok(Server { at, process })
}

/// gRPC's health service by its own library: all is well, but `ill.Service` is not, and others are not known. In clear text
/// and over TLS.
pub(crate) fn grpc(here: &Here) -> Result<(Server, SocketAddr)> {
    const SERVER: &str = r#"
import sys, grpc
from concurrent import futures
plain, tls, certificate, key = sys.argv[1:]
def check(request, context):
    name = request[2:].decode() if request else ""
    if name not in ("", "ill.Service"):
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return b"\x08\x02" if name else b"\x08\x01"
server = grpc.server(futures.ThreadPoolExecutor(4))
handlers = {"Check": grpc.unary_unary_rpc_method_handler(check)}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),))
server.add_insecure_port(plain)
pair = (open(key, "rb").read(), open(certificate, "rb").read())
server.add_secure_port(tls, grpc.ssl_server_credentials([pair]))
server.start()
server.wait_for_termination()
"#;
    let (at, tls) = (free_address()?, free_address()?);
    here.authority.issue(here.folder(), "grpc", &["grpc.test"])?;
    let mut command = Command::new(venv()?.join("bin/python"));
    command
        .args(["-c", SERVER, &at.to_string(), &tls.to_string()])
        .args([here.file("grpc.pem"), here.file("grpc.key")]);
    let process = ready(Process::start("grpc", here.folder(), &mut command)?, tls)?;
    Ok((Server { at, process }, tls))
}

fn ready(mut process: Process, at: SocketAddr) -> Result<Process> {
    wait_ok("a server to listen", PATIENCE, || {
        if let Some(status) = process.ended() {
            return Ok(Err(anyhow::anyhow!("it ended ({status}):\n{}", process.log())));
        }
        TcpStream::connect(at).map(|_| Ok(())).map_err(Into::into)
    })??;
    ensure!(process.ended().is_none(), "it ended:\n{}", process.log());
    Ok(process)
}
