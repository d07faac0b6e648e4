//! Mode `tcp`: bytes without TLS, to servers of several kinds.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};
use lb_tests::backend::{Backend, pattern_bytes};
use lb_tests::harness::{Test, plain, with};
use lb_tests::here::{Here, free_address};
use lb_tests::lab::HOST;
use lb_tests::process::Process;
use lb_tests::programs::curl;
use lb_tests::wait::{PATIENCE, wait_ok};

use lb_tests::peers::haproxy_with as haproxy;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        plain("eight_mebibytes_pass_mode_tcp_and_one_half_ends_before_the_other", bulk),
        with("haproxy_behind_mode_tcp_knows_the_client_by_proxy_v1_and_v2", &["haproxy", "curl"], behind_haproxy),
        with("mode_tcp_balances_and_speaks_tls_to_backends", &["curl"], balanced),
    ]
}

fn bulk() -> Result<()> {
    let here = Here::new()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = free_address()?;
    let _edge = here.start(&format!(
        "{}[service.raw]\naddresses = [\"{at}\"]\nmode = \"tcp\"\npool = \"echo\"\n[pool.echo]\nbackends = [\"{}\"]\n",
        here.head(""),
        listener.local_addr()?
    ))?;
    let echo = std::thread::spawn(move || -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.write_all(b"hello first\n")?;
        let mut reader = stream.try_clone()?;
        std::io::copy(&mut reader, &mut stream)?;
        stream.write_all(b"and last")?;
        Ok(())
    });
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut first = [0; 12];
    stream.read_exact(&mut first).context("the server's first word")?;
    let bytes = pattern_bytes(8 << 20);
    let (mut writer, sent) = (stream.try_clone()?, bytes.clone());
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent)?;
        writer.shutdown(Shutdown::Write)
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back)?;
    writing.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    echo.join().map_err(|_| anyhow::anyhow!("the echo panicked"))??;
    let (echoed, last) = back.split_at(bytes.len().min(back.len()));
    ensure!(&first == b"hello first\n" && echoed == bytes && last == b"and last", "{} bytes came back", back.len());
    Ok(())
}

fn behind_haproxy() -> Result<()> {
    let here = Here::new()?;
    let backend = Backend::start_here("app")?;
    let (behind, at) = (free_address()?, [free_address()?, free_address()?]);
    let sections = format!(
        "frontend front\n bind {behind} accept-proxy\n log global\n log-format \"%ci:%cp %fi:%fp\"\n default_backend back\n\
         backend back\n server one {}\n",
        backend.address
    );
    let haproxy = haproxy(here.folder(), &sections, behind)?;
    let mut config = here.head("");
    for (version, at) in ["v1", "v2"].iter().zip(&at) {
        config += &format!(
            "[service.{version}]\naddresses = [\"{at}\"]\nmode = \"tcp\"\npool = \"{version}\"\n\
             [pool.{version}]\nbackends = [\"{behind}\"]\nproxy_protocol = \"{version}\"\n\
             health = {{ type = \"http\", interval = \"200ms\" }}\n"
        );
    }
    let edge = here.start(&config)?;
    for at in at {
        let url = format!("http://{at}/");
        let said = curl(at, &[], &here.ca(), &["--interface", "127.0.0.2", "-w", "port %{local_port}", &url])?;
        let port = said.text.lines().find_map(|line| line.split_once("port ")).context("no port")?.1;
        ensure!(said.status(200), "{}", said.text);
        let told = format!("127.0.0.2:{port} {at}");
        wait_ok("haproxy's log of the connection", PATIENCE, || {
            ensure!(Process::log(&haproxy).lines().any(|line| line == told), "{told} is not in\n{}", haproxy.log());
            Ok(())
        })?;
    }
    // Checks go through the same headers, of the edge's own.
    wait_ok("good checks of both", PATIENCE, || {
        for pool in ["v1", "v2"] {
            let labels = [("pool", pool), ("result", "good")];
            ensure!(edge.metrics()?.sum("bailey_health_checks_total", &labels) >= 1.0, "{pool}");
        }
        Ok(())
    })
}

fn balanced() -> Result<()> {
    let here = Here::new()?;
    let (one, two) = (Backend::start_here("one")?, Backend::start_here("two")?);
    let (inner, at, secure) = (free_address()?, free_address()?, free_address()?);
    let _edge = here.start(&format!(
        "{}[service.raw]\naddresses = [\"{at}\"]\nmode = \"tcp\"\npool = \"both\"\n\
         [service.web]\naddresses = [\"{inner}\"]\nmode = \"https\"\ncertificates = [\"lab\"]\npool = \"both\"\n\
         [service.wrapped]\naddresses = [\"{secure}\"]\nmode = \"tcp\"\npool = \"tls\"\n\
         [pool.both]\nbackends = [\"{}\", \"{}\"]\n\
         [pool.tls]\nbackends = [\"{inner}\"]\n[pool.tls.tls]\nca = \"ca.pem\"\nserver_name = \"{HOST}\"\n",
        here.head(""),
        one.address,
        two.address
    ))?;
    for _ in 0..8 {
        ensure!(curl(at, &[], &here.ca(), &[&format!("http://{at}/")])?.status(200));
    }
    // Each thread has its own turn.
    ensure!(one.count() >= 2 && two.count() >= 2 && one.count() + two.count() == 8, "{} {}", one.count(), two.count());
    let host = format!("Host: {HOST}");
    let said = curl(secure, &[], &here.ca(), &["-H", &host, &format!("http://{secure}/")])?;
    ensure!(said.status(200), "{}", said.text);
    Ok(())
}
