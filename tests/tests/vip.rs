//! A service's address needs no bind() and no interface, and what is not a service's is left alone.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};
use lb_tests::client::Protocol;
use lb_tests::edge::Edge;
use lb_tests::harness::{lab, main as run};
use lb_tests::lab::{EDGE4, HOST, Lab, VIP4, VIP6};
use lb_tests::need::find;
use lb_tests::process::Process;
use lb_tests::wait::{PATIENCE, wait_ok};

const WILDCARD: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

fn main() -> ExitCode {
    run(vec![
        lab("a_port_that_nobody_bound_is_served", unbound),
        lab("a_wildcard_service_serves_every_port_and_an_exact_one_goes_before_it", wildcard),
        lab("ping_is_answered_on_both_vips", ping),
        lab("a_port_of_no_service_is_refused_at_once", refused),
        lab("a_plain_server_beside_the_edge_is_untouched", beside),
    ])
}

fn unbound() -> Result<()> {
    let lab = Lab::new(1)?;
    let backends = lab.start_backends()?;
    let _edge = Edge::start(&lab, &lab.site("", ""))?;
    for vip in [IpAddr::from(VIP4), VIP6.into()] {
        let target = lab.target(vip, 443)?;
        let reply = lab.client.run_async(|| async { target.get(Protocol::Http2, "/hello").await })?;
        ensure!(reply.status == 200 && reply.json()?["backend"] == "backend1", "{reply:?}");
    }
    ensure!(backends[0].count() == 2);
    for file in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        for line in lab.edge.output("cat", &[file])?.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // TCP_LISTEN is 0A; ports are hex.
            ensure!(fields[3] != "0A" || !fields[1].ends_with(":01BB"), "somebody listens on port 443: {line}");
        }
    }
    Ok(())
}

fn wildcard() -> Result<()> {
    let lab = Lab::new(2)?;
    let _backends = lab.start_backends()?;
    let more = format!(
        "[service.any]\naddresses = [\"{WILDCARD}:*\"]\nmode = \"https\"\ncertificates = [\"lab\"]\npool = \"one\"\n\
         [service.exact]\naddresses = [\"{WILDCARD}:8443\"]\nmode = \"https\"\ncertificates = [\"lab\"]\npool = \"two\"\n\
         [pool.one]\nbackends = [\"{}\"]\n[pool.two]\nbackends = [\"{}\"]\n",
        lab.backend(0, 8080),
        lab.backend(1, 8080)
    );
    let _edge = Edge::start(&lab, &(lab.site("", "") + &more))?;
    for (port, expected) in [(1, "backend1"), (443, "backend1"), (54321, "backend1"), (8443, "backend2")] {
        let target = lab.target(WILDCARD, port)?;
        let reply = lab.client.run_async(|| async { target.get(Protocol::Http1, "/").await })?;
        ensure!(reply.header("x-backend") == expected, "port {port}: {reply:?}");
    }
    Ok(())
}

fn ping() -> Result<()> {
    let lab = Lab::new(0)?;
    let edge = Edge::start(&lab, &lab.site("", ""))?;
    for vip in [VIP4.to_string(), VIP6.to_string()] {
        lab.client.output("ping", &["-c", "2", "-i", "0.2", "-W", "2", &vip])?;
    }
    let echoes = edge.metrics()?.sum("bailey_packets_total", &[("verdict", "icmp")]);
    ensure!(echoes >= 4.0, "{echoes} packets counted as icmp");
    Ok(())
}

fn refused() -> Result<()> {
    let lab = Lab::new(0)?;
    let _edge = Edge::start(&lab, &lab.site("", ""))?;
    let error = lab.client.run(|| Ok(std::net::TcpStream::connect((VIP4, 81)).err()))?;
    ensure!(error.as_ref().is_some_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused), "{error:?}");
    Ok(())
}

fn beside() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let _nginx = plain_nginx(&lab)?;
    let url = |port: u16| format!("http://{EDGE4}:{port}/");
    let ask = |port: u16| lab.client.output("curl", &["-sSf", "--max-time", "5", &url(port)]);
    wait_ok("nginx", PATIENCE, || ask(80))?;
    let edge = Edge::start(&lab, &lab.site("", ""))?;
    // The same port as a service's, on an address that is no service's.
    for port in [80, 443] {
        ensure!(ask(port)? == "plain server\n");
    }
    let target = lab.target(VIP4, 443)?;
    let reply = lab.client.run_async(|| async { target.get(Protocol::Http1, "/").await })?;
    ensure!(reply.header("x-backend") == "backend1", "{reply:?}");
    let passed = edge.metrics()?.sum("bailey_packets_total", &[("verdict", "not_vip")]);
    ensure!(passed >= 8.0, "{passed} packets counted as not_vip");
    Ok(())
}

fn plain_nginx(lab: &Lab) -> Result<Process> {
    let file = lab.folder().join("nginx.conf");
    let folder = lab.folder().display();
    let text = format!(
        "daemon off; user root; pid {folder}/nginx.pid; error_log stderr; events {{}}\n\
         http {{ access_log off; server {{ listen {EDGE4}:80; listen {EDGE4}:443; server_name {HOST};\n\
         location / {{ return 200 \"plain server\\n\"; }} }} }}"
    );
    std::fs::write(&file, text)?;
    let mut command: Command = lab.edge.command(find("nginx").unwrap_or_default());
    Process::start("nginx", lab.folder(), command.arg("-c").arg(&file))
}
