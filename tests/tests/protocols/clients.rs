//! Who the client is: haproxy and nginx in front of the edge, and what the backend behind it is told.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use lb_tests::backend::Backend;
use lb_tests::harness::{Test, with};
use lb_tests::here::{Here, free_address};
use lb_tests::lab::HOST;
use lb_tests::programs::{curl, run};

use lb_tests::peers::{haproxy_with as haproxy, nginx};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with(
            "haproxy_in_front_tells_the_client_by_proxy_v1_and_v2_before_http_and_tls",
            &["haproxy", "curl"],
            behind_haproxy,
        ),
        with("nginx_in_front_is_believed_what_it_appended_and_no_more", &["nginx", "curl"], behind_nginx),
    ]
}

/// What the backend was told last under this name.
fn told(backend: &Backend, name: &str) -> Result<String> {
    let seen = backend.seen();
    let last = seen.last().context("the backend was asked nothing")?;
    Ok(last.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").into())
}

fn behind_haproxy() -> Result<()> {
    let here = Here::new()?;
    let backend = Backend::start_here("app")?;
    let (clear, secure) = (free_address()?, free_address()?);
    let fronts: [SocketAddr; 4] = [free_address()?, free_address()?, free_address()?, free_address()?];
    let service = |name: &str, at: SocketAddr, more: &str| {
        format!(
            "[service.{name}]\naddresses = [\"{at}\"]\npool = \"app\"\n{more}\n\
             proxy_protocol = {{ from = [\"127.0.0.1\"] }}\n"
        )
    };
    let edge = here.start(&format!(
        "{}{}{}[pool.app]\nbackends = [\"{}\"]\n",
        here.head(""),
        service("clear", clear, "mode = \"http\""),
        service("secure", secure, "mode = \"https\"\ncertificates = [\"lab\"]"),
        backend.address
    ))?;
    let front = |(at, (to, word)): (&SocketAddr, (SocketAddr, &str))| {
        format!("listen at-{}\n bind {at}\n server edge {to} {word}\n", at.port())
    };
    let ways = [
        (clear, "send-proxy"),
        (clear, "send-proxy-v2"),
        (secure, "send-proxy"),
        (secure, "send-proxy-v2 proxy-v2-options crc32c,unique-id"),
    ];
    let sections: String = fronts.iter().zip(ways).map(front).collect();
    let _haproxy = haproxy(here.folder(), &sections, fronts[0])?;
    let count = |service: &str, result: &str| {
        let labels = [("service", service), ("result", result)];
        Ok::<_, anyhow::Error>(edge.metrics()?.sum("bailey_proxy_headers_total", &labels))
    };
    for (at, (to, word)) in fronts.iter().zip(ways) {
        let service = if to == clear { "clear" } else { "secure" };
        let before = count(service, "accepted")?;
        let url = if to == secure { format!("https://{HOST}:{}/", at.port()) } else { format!("http://{at}/") };
        let said = curl(*at, &[HOST], &here.ca(), &["--interface", "127.0.0.2", &url])?;
        ensure!(said.status(200), "{word}: {}", said.text);
        ensure!(told(&backend, "x-forwarded-for")? == "127.0.0.2", "{word}: {}", told(&backend, "x-forwarded-for")?);
        // The port that the client connected to is haproxy's.
        ensure!(told(&backend, "x-forwarded-port")? == at.port().to_string(), "{word}");
        // haproxy's own, from the look whether it listens, may be among them.
        ensure!(count(service, "accepted")? > before, "{word}");
    }
    // Past haproxy there is no way in.
    let said = run("curl", &["-sS", &format!("http://{clear}/")], "")?;
    ensure!(said.code != Some(0), "{}", said.text);
    let said =
        run("curl", &["-sS", "--haproxy-protocol", "--interface", "127.0.0.3", &format!("http://{clear}/")], "")?;
    ensure!(said.code != Some(0), "{}", said.text);
    ensure!(count("clear", "missing")? == 1.0 && count("clear", "untrusted")? == 1.0, "{}", edge.metrics_text()?);
    Ok(())
}

fn behind_nginx() -> Result<()> {
    let here = Here::new()?;
    let backend = Backend::start_here("app")?;
    let (at, front) = (free_address()?, free_address()?);
    let _edge = here.start(&format!(
        "{}[service.web]\naddresses = [\"{at}\"]\nmode = \"http\"\npool = \"app\"\n\
         trusted_proxies = [\"127.0.0.1\"]\nclient_ip_header = \"client-ip\"\nrequest_id_header = \"x-request-id\"\n\
         forwarded_headers = {{ forwarded = true, x_real_ip = true }}\n\
         [pool.app]\nbackends = [\"{}\"]\n",
        here.head(""),
        backend.address
    ))?;
    let servers = format!(
        "server {{ listen {front}; location / {{ proxy_pass http://{at}; proxy_set_header Host $http_host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Request-ID $request_id; }} }}\n"
    );
    let _nginx = nginx(here.folder(), &servers, front)?;
    let lie = ["-H", "X-Forwarded-For: 203.0.113.9", "-H", "client-ip: 203.0.113.9", "-H", "x-request-id: mine"];
    let ask = |to: SocketAddr| {
        let url = format!("http://{to}/");
        curl(to, &[], &here.ca(), &[&lie[..], &["--interface", "127.0.0.2", &url]].concat())
    };
    let said = ask(front)?;
    ensure!(said.status(200), "{}", said.text);
    for (name, want) in [
        ("x-forwarded-for", "127.0.0.2, 127.0.0.1".to_owned()),
        ("x-real-ip", "127.0.0.2".into()),
        ("client-ip", "127.0.0.2".into()),
        ("forwarded", format!("for=127.0.0.2;host=\"{front}\";proto=http, for=127.0.0.1")),
    ] {
        ensure!(told(&backend, name)? == want, "{name}: {}", told(&backend, name)?);
    }
    ensure!(told(&backend, "x-request-id")?.len() == 32, "{}", told(&backend, "x-request-id")?);
    // Straight to the edge, from an address that is not trusted.
    ensure!(ask(at)?.status(200));
    for name in ["x-forwarded-for", "x-real-ip", "client-ip"] {
        ensure!(told(&backend, name)? == "127.0.0.2", "{name}: {}", told(&backend, name)?);
    }
    ensure!(told(&backend, "x-request-id")? != "mine");
    Ok(())
}
