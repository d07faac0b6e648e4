//! The same vectors in front of nginx, Apache and HAProxy: what each of them counts is what was sent.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::harness::{Test, with};
use lb_tests::here::free_address;
use lb_tests::need::find;
use lb_tests::process::Process;
use lb_tests::wait::{PATIENCE, wait_ok};

use crate::http1::{END, KEYS};
use crate::site::Site;
use crate::vectors::{self, Expect};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("nginx_counts_what_was_sent", &["nginx"], || counts(nginx)),
        with("apache_counts_what_was_sent", &["apache2"], || counts(apache)),
        with("haproxy_counts_what_was_sent", &["haproxy"], || counts(haproxy)),
    ]
}

/// A server that writes a line for each request into a file: method and target, perhaps the version.
struct Peer {
    log: PathBuf,
    _process: Process,
}

fn counts(start: fn(&Path, SocketAddr) -> Result<Peer>) -> Result<()> {
    let folder = lb_tests::lab::folder()?;
    let address = free_address()?;
    let peer = start(folder.path(), address)?;
    wait_ok("the server to listen", PATIENCE, || Ok(std::net::TcpStream::connect(address)?))?;
    let site = Site::new(address, KEYS)?;
    let mut expected = Vec::new();
    for (bytes, expect) in vectors::all() {
        let (requests, end) = match expect {
            Expect::Served(requests) => (requests, true),
            Expect::Closed(requests) | Expect::Refused(requests, ..) => (requests, false),
            // Half a request is sent and broken off: whether that counts is for each to say.
            Expect::Broken(..) => continue,
        };
        let end = end.then_some("GET /end");
        // The recorder has the bodies; a log has not.
        expected
            .extend(requests.iter().copied().chain(end).map(|r| r.split(' ').take(2).collect::<Vec<_>>().join(" ")));
        site.exchange(&[&bytes, END].concat()).with_context(|| String::from_utf8_lossy(&bytes).into_owned())?;
    }
    expected.sort();
    let counted = || -> Result<Vec<String>> {
        let text = std::fs::read(&peer.log).context("its log")?;
        let text = String::from_utf8_lossy(&text).into_owned();
        // A connection that asked for nothing is no request.
        let mut lines: Vec<String> = text
            .lines()
            .map(|line| line.trim().trim_end_matches(" HTTP/1.1").to_owned())
            .filter(|line| line.contains(" /") || line.contains(" *"))
            .collect();
        lines.sort();
        Ok(lines)
    };
    // A log is written when an answer is sent, or a little later.
    let all = wait_ok("everything to be counted", Duration::from_secs(5), || {
        let lines = counted()?;
        ensure!(lines.len() >= expected.len(), "{} of {}", lines.len(), expected.len());
        Ok(lines)
    });
    let all = all.or_else(|_| counted())?;
    let extra: Vec<_> = all.iter().filter(|line| !expected.contains(line)).collect();
    let lost: Vec<_> = expected.iter().filter(|line| !all.contains(line)).collect();
    ensure!(
        all == expected,
        "counted {}, sent {}; not sent {extra:?}, not counted {lost:?}",
        all.len(),
        expected.len()
    );
    Ok(())
}

fn launch(name: &str, folder: &Path, config: &str, words: &[&str]) -> Result<Process> {
    let file = folder.join(format!("{name}.conf"));
    std::fs::write(&file, config)?;
    let mut command = Command::new(find(name).with_context(|| format!("no program {name}"))?);
    command.args(words).arg(&file).current_dir(folder);
    Process::start(name, folder, &mut command)
}

fn nginx(folder: &Path, address: SocketAddr) -> Result<Peer> {
    let here = folder.display();
    let config = format!(
        "daemon off;\nmaster_process off;\npid {here}/nginx.pid;\nerror_log {here}/error.log;\nevents {{}}\n\
         http {{\nlog_format line '$request';\naccess_log {here}/access.log line;\n\
         client_body_temp_path {here}/t; proxy_temp_path {here}/t; fastcgi_temp_path {here}/t;\n\
         uwsgi_temp_path {here}/t; scgi_temp_path {here}/t;\nkeepalive_requests 100000;\n\
         server {{ listen {address}; location / {{ return 200 ok; }} }}\n}}\n"
    );
    let process = launch("nginx", folder, &config, &["-p", &here.to_string(), "-c"])?;
    Ok(Peer { log: folder.join("access.log"), _process: process })
}

fn apache(folder: &Path, address: SocketAddr) -> Result<Peer> {
    let here = folder.display();
    let modules = "/usr/lib/apache2/modules";
    let config = format!(
        "ServerRoot {here}\nDefaultRuntimeDir {here}\nPidFile {here}/apache.pid\nMutex file:{here} default\n\
         LoadModule mpm_event_module {modules}/mod_mpm_event.so\n\
         LoadModule authz_core_module {modules}/mod_authz_core.so\n\
         Listen {address}\nServerName o\nUser nobody\nGroup nogroup\nErrorLog {here}/error.log\n\
         DocumentRoot {here}\nAllowEncodedSlashes On\nMaxKeepAliveRequests 0\nKeepAliveTimeout 60\n\
         LogFormat \"%r\" line\nCustomLog \"{here}/access.full\" line\n"
    );
    let process = launch("apache2", folder, &config, &["-DFOREGROUND", "-f"])?;
    Ok(Peer { log: folder.join("access.full"), _process: process })
}

fn haproxy(folder: &Path, address: SocketAddr) -> Result<Peer> {
    let config = format!(
        "global\n tune.http.logurilen 4096\n log stdout len 8192 format raw local0\ndefaults\n mode http\n log global\n timeout client 60s\n\
         timeout connect 5s\n timeout server 5s\n log-format \"%HM %HU\"\n\
         frontend peer\n bind {address}\n http-request return status 200 content-type text/plain string ok\n"
    );
    let process = launch("haproxy", folder, &config, &["-db", "-f"])?;
    Ok(Peer { log: folder.join("haproxy.log"), _process: process })
}
