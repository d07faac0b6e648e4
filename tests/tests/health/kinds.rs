//! Every kind of check, of servers that are well and of servers that are not.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Result, ensure};
use lb_tests::harness::{Test, python, with};
use lb_tests::here::{Here, free_address};
use lb_tests::wait::{PATIENCE, wait_for};
use rustix::process::Signal;

use crate::servers;
use crate::site::{Case, as_expected, backends, edge};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("http_tls_and_texts_of_nginx", &["nginx", "curl"], http),
        with("a_bind_of_openldap", &["slapd"], ldap),
        with("a_question_for_dnsmasq_and_an_echo_of_the_kernel", &["dnsmasq"], names),
        python("the_health_service_of_grpc", "grpc", grpc),
    ]
}

/// A program that is known by its argument, and does not end by itself.
const HANGS: &str = "type = \"script\"\ncommand = [\"/bin/sleep\", \"86397\"]\ntimeout = \"300ms\"";
const TLS: &str = "tls = { ca = \"ca.pem\", server_name = \"web.test\" }";

fn http() -> Result<()> {
    let here = Here::new()?;
    let web = servers::web(&here)?;
    let script = here.file("check");
    let text = format!("#!/bin/sh\nexec curl -sf -m 2 http://$BAILEY_ADDRESS:{}$1\n", web.http.port());
    std::fs::write(&script, text)?;
    // It runs as another user, who must get there.
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    std::fs::set_permissions(here.folder(), std::fs::Permissions::from_mode(0o755))?;
    let rights = here.file("rights");
    let text = "#!/bin/sh\ngrep -q 'NoNewPrivs:.1' /proc/self/status && grep -q 'CapPrm:.0000000000000000' /proc/self/status\n";
    std::fs::write(&rights, text)?;
    std::fs::set_permissions(&rights, std::fs::Permissions::from_mode(0o755))?;
    let rights = format!("type = \"script\"\ncommand = \"{}\"", rights.display());
    let script = |path: &str| format!("type = \"script\"\ncommand = [\"{}\", \"{path}\"]", script.display());
    let dead = free_address()?;
    let port = web.http.port();
    let of = Case::new;
    let cases = [
        of("tcp", web.http, "type = \"tcp\"", true, "connected"),
        of("refused", dead, "type = \"tcp\"", false, "refused"),
        of("reversed", dead, "type = \"tcp\"\nreverse = true", true, "refused"),
        of("elsewhere", dead, &format!("type = \"http\"\nport = {port}"), true, "HTTP 200"),
        of("ill", web.http, "type = \"http\"\npath = \"/ill\"", false, "HTTP 503 after"),
        of("codes", web.http, "type = \"http\"\npath = \"/ill\"\ncodes = [503]", true, "HTTP 503 after"),
        of("text", web.http, "type = \"http\"\nbody = \"but good\"", true, "with its text"),
        of("other", web.http, "type = \"http\"\nbody = \"evil\"", false, "\"evil\" not in 16 bytes"),
        of("nokey", web.http, "type = \"http\"\npath = \"/key\"", false, "HTTP 403"),
        of("key", web.http, "type = \"http\"\npath = \"/key\"\nheaders = { x-key = \"sesame\" }", true, "HTTP 204"),
        of("method", web.http, "type = \"http\"\nmethod = \"OPTIONS\"\npath = \"/method\"", true, "HTTP 200"),
        of(
            "source",
            web.http,
            "type = \"http\"\npath = \"/from\"\nsource = \"127.0.0.9\"\nhost = \"a.test\"\nbody = \"from 127.0.0.9 to a.test\"",
            true,
            "HTTP 200",
        ),
        of(
            "h2c",
            web.h2c,
            "type = \"http\"\nprotocol = \"h2\"\npath = \"/protocol\"\nbody = \"HTTP/2.0\"",
            true,
            "HTTP 200",
        ),
        of("noth2", web.http, "type = \"http\"\nprotocol = \"h2\"", false, "HTTP: "),
        of("https", web.tls, "type = \"https\"\npath = \"/protocol\"\nbody = \"HTTP/1.1\"", true, "HTTP 200").keys(TLS),
        of(
            "h2",
            web.tls,
            "type = \"https\"\nprotocol = \"h2\"\npath = \"/protocol\"\nbody = \"HTTP/2.0\"",
            true,
            "HTTP 200",
        )
        .keys(TLS),
        of("tls", web.tls, "type = \"tls\"", true, "TLS handshake").keys(TLS),
        of("name", web.tls, "type = \"tls\"\ntls = { ca = \"ca.pem\", server_name = \"x.test\" }", false, "TLS: "),
        of("nottls", web.http, "type = \"tls\"", false, "TLS: ").keys(TLS),
        of("clear", web.http, "type = \"http\"\ntls = false", true, "HTTP 200").keys(TLS),
        of(
            "exchange",
            web.http,
            "type = \"text\"\nsend = 'GET / HTTP/1.0\\r\\n\\r\\n'\nexpect = 'HTTP/1.1 200 OK\\r\\n'",
            true,
            "answered",
        ),
        of(
            "exchange-tls",
            web.tls,
            "type = \"text\"\nsend = 'GET /ill HTTP/1.0\\r\\n\\r\\n'\nexpect = '200 OK'",
            false,
            "\"200 OK\" not in",
        )
        .keys("tls = { ca = \"ca.pem\", server_name = \"web.test\", alpn = [\"http/1.1\"] }"),
        of("script", web.http, &script("/"), true, "script exit 0, \"nothing but good\""),
        of("script-rights", web.http, &rights, true, "script exit 0"),
        of("script-hangs", web.http, HANGS, false, "no answer after"),
        of("script-bad", web.http, &script("/ill"), false, "script exit 22"),
    ];
    let mut edge = edge(&here, &cases)?;
    as_expected(&edge, &cases)?;
    // All die with their server, and say so, but the reversed one and those of no server.
    drop(web.process);
    let died: Vec<Case> = cases
        .into_iter()
        .filter(|case| case.up && !["reversed", "script-rights"].contains(&case.pool))
        .map(|case| Case { up: false, says: "3 of 3", ..case })
        .collect();
    as_expected(&edge, &died)?;
    let log = edge.log();
    ensure!(log.contains("connect: Connection refused") && log.contains("3 of 3"), "no cause in the log:\n{log}");
    edge.stop()?;
    // What runs as another user is ended all the same, with its check or with the edge.
    wait_for("scripts to be gone", PATIENCE, || hanging().is_empty().then_some(()))
}

/// Processes of the script that hangs.
fn hanging() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.ends_with("sleep\u{0}86397\u{0}")).collect()
}

fn ldap() -> Result<()> {
    let here = Here::new()?;
    let (server, tls) = servers::ldap(&here)?;
    for (file, password) in [("right", "secret\n"), ("wrong", "public\n")] {
        std::fs::write(here.file(file), password)?;
        std::fs::set_permissions(here.file(file), std::fs::Permissions::from_mode(0o600))?;
    }
    let bind = |file: &str| format!("type = \"ldap\"\nbind_dn = \"cn=admin,dc=test\"\npassword_file = \"{file}\"");
    let of = Case::new;
    let over = "tls = { ca = \"ca.pem\", server_name = \"ldap.test\" }";
    let cases = [
        of("anonymous", server.at, "type = \"ldap\"", true, "LDAP bind after"),
        of("admin", server.at, &bind("right"), true, "LDAP bind after"),
        of("intruder", server.at, &bind("wrong"), false, "LDAP result 49 (invalid credentials)"),
        of("tls", tls, &bind("right"), true, "LDAP bind after").keys(over),
        of("clear", tls, "type = \"ldap\"", false, "LDAP: "),
    ];
    let edge = edge(&here, &cases)?;
    as_expected(&edge, &cases)?;
    let shown = edge.done(&["pool", "show", "admin"])?;
    ensure!(shown.contains("ldap as cn=admin,dc=test") && !shown.contains("secret"), "{shown}");
    // A password that is turned over is taken with the next reload.
    std::fs::write(here.file("wrong"), "secret\n")?;
    edge.done(&["reload"])?;
    as_expected(&edge, &[of("intruder", server.at, "", true, "LDAP bind after")])?;
    // One that hangs is not waited for.
    server.process.signal(Signal::STOP)?;
    let hangs = as_expected(&edge, &[of("admin", server.at, "", false, "no answer after")]);
    server.process.signal(Signal::CONT)?;
    hangs?;
    as_expected(&edge, &[of("admin", server.at, "", true, "LDAP bind after")])
}

fn names() -> Result<()> {
    let here = Here::new()?;
    let server = servers::names(&here)?;
    let dead = free_address()?;
    // A header with the question app.test A, as it goes over the wire.
    let raw = r"type = 'text'
transport = 'udp'
send = '\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03app\x04test\x00\x00\x01\x00\x01'
expect = '\xc0\x00\x02\x07'";
    let dns = |more: &str| format!("type = \"dns\"\n{more}");
    let of = Case::new;
    let mut cases = vec![
        of("udp", server.at, &dns("query = \"app.test\""), true, "DNS answer after"),
        of("tcp", server.at, &dns("query = \"app.test\"\ntransport = \"tcp\""), true, "DNS answer after"),
        of("expected", server.at, &dns("query = \"app.test\"\nexpect = \"192.0.2.7\""), true, "DNS answer after"),
        of("unexpected", server.at, &dns("query = \"app.test\"\nexpect = \"192.0.2.8\""), false, "none of 1 records"),
        of("no-record", server.at, &dns("query = \"app.test\"\nrecord = \"MX\""), false, "DNS: no such record"),
        of("no-name", server.at, &dns("query = \"other.test\""), false, "DNS \"Non-Existent Domain\""),
        of("no-server", dead, &dns("query = \"app.test\""), false, "UDP: Connection refused"),
        of("raw", server.at, raw, true, "answered"),
        of("raw-dead", dead, raw, false, "UDP: Connection refused"),
    ];
    if rustix::process::geteuid().is_root() {
        cases.push(of("echo", dead, "type = \"icmp\"", true, "echo after"));
        // RFC 3849: nobody has it. Whether the host's routes say so, or nobody does, the first check decides alone.
        let nobody = "type = \"icmp\"\naddress = \"2001:db8::1\"\ntimeout = \"300ms\"";
        cases.push(of("no-echo", dead, nobody, false, "1 of 1"));
        cases.push(of("echo6", "[::1]:80".parse()?, "type = \"icmp\"", true, "echo after"));
    }
    let edge = edge(&here, &cases)?;
    as_expected(&edge, &cases)
}

fn grpc() -> Result<()> {
    let here = Here::new()?;
    let (server, tls) = servers::grpc(&here)?;
    let of = Case::new;
    let over = "tls = { ca = \"ca.pem\", server_name = \"grpc.test\" }";
    let cases = [
        of("all", server.at, "type = \"grpc\"", true, "gRPC SERVING after"),
        of("tls", tls, "type = \"grpc\"", true, "gRPC SERVING after").keys(over),
        of("ill", server.at, "type = \"grpc\"\nservice = \"ill.Service\"", false, "gRPC NOT_SERVING after"),
        of("unknown", server.at, "type = \"grpc\"\nservice = \"no.Service\"", false, "knows no such service"),
    ];
    let edge = edge(&here, &cases)?;
    as_expected(&edge, &cases)?;
    drop(server);
    as_expected(&edge, &[of("all", tls, "", false, "refused")])?;
    ensure!(backends(&edge, "all")?[0]["history"][0]["up"] == true);
    Ok(())
}
