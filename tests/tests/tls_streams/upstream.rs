//! TLS towards backends, with nginx as the backend: what each key of `[pool.NAME.tls]` does, and what its failure says.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Result, ensure};
use lb_tests::client::Protocol;
use lb_tests::edge::Edge;
use lb_tests::harness::{Test, with};
use lb_tests::here::{Here, free_address};
use lb_tests::lab::HOST;
use lb_tests::metrics::Scrape;
use lb_tests::netns::{finish, runtime};
use lb_tests::pki::{Authority, Order};
use lb_tests::process::Process;
use lb_tests::programs::run;
use lb_tests::wait::{PATIENCE, wait_ok};

use lb_tests::peers::nginx;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("each_key_of_upstream_tls_does_what_it_says_towards_nginx", &["nginx", "openssl"], keys),
        with("a_pool_that_is_not_verified_is_told_of_at_check_in_status_and_in_metrics", &["nginx"], unverified),
        with("sessions_with_backends_are_resumed", &["nginx"], resumed),
        with("many_requests_share_http2_connections_to_nginx", &["nginx", "h2load"], multiplexed),
    ]
}

/// nginx with four servers, and an https service with one route for each pool: `POOL.bailey.test`.
struct Site {
    here: Here,
    edge: Edge<'static>,
    at: SocketAddr,
    _nginx: Process,
}

/// What nginx listens for.
#[derive(Clone, Copy)]
enum Server {
    /// Everything that it has.
    Any = 0,
    /// A client certificate is required.
    Asks = 1,
    /// TLS 1.2 alone.
    Old = 2,
    /// HTTP/2 besides.
    Http2 = 3,
}

/// Name of a pool, keys of its `tls`, and its backend.
type Pool<'a> = (&'a str, &'a str, Server);

impl Site {
    fn new(pools: impl FnOnce(&Here) -> Result<Vec<(&'static str, String, Server)>>) -> Result<Self> {
        let (here, at) = (Here::new()?, free_address()?);
        let folder = here.folder();
        let clients = Authority::new("Clients of nginx")?;
        clients.save(&here.file("clients.pem"))?;
        clients.order(folder, "bailey", &Order::client())?;
        let listens = [free_address()?, free_address()?, free_address()?, free_address()?];
        // Before 1.23.4 it has TLS 1.3 only where it is told to.
        let own = [
            "ssl_protocols TLSv1.2 TLSv1.3;",
            "ssl_protocols TLSv1.2 TLSv1.3; ssl_verify_client on; ssl_client_certificate clients.pem;",
            "ssl_protocols TLSv1.2;",
            "ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:own:1m;",
        ];
        let servers = listens.iter().zip(own).zip(["ssl", "ssl", "ssl", "ssl http2"]).map(|((listen, own), words)| {
            format!(
                "server {{ listen {listen} {words}; ssl_certificate edge.pem; ssl_certificate_key edge.key; {own}\n\
                 location / {{ return 200 \"$server_protocol $ssl_protocol sni=$ssl_server_name \
                 verify=$ssl_client_verify,$ssl_client_s_dn reused=$ssl_session_reused\"; }} }}\n"
            )
        });
        let nginx = nginx(folder, &servers.collect::<String>(), listens[0])?;
        let mut config = here.head("")
            + "[certificate.own]\nchain = \"bailey.pem\"\nkey = \"bailey.key\"\n"
            + &format!("[service.web]\naddresses = [\"{at}\"]\nmode = \"https\"\ncertificates = [\"lab\"]\n");
        for (name, keys, server) in pools(&here)? {
            config += &format!(
                "[[service.web.routes]]\nhosts = [\"{name}.bailey.test\"]\npool = \"{name}\"\n\
                 [pool.{name}]\nbackends = [\"{}\"]\nmax_idle = 0\n[pool.{name}.tls]\n{keys}\n",
                listens[server as usize]
            );
        }
        let edge = here.start(&config)?;
        Ok(Self { here, edge, at, _nginx: nginx })
    }

    /// Status and body of a GET that goes to this pool.
    fn get(&self, pool: &str) -> Result<(u16, String)> {
        let target = self.here.target(self.at, &format!("{pool}.bailey.test"))?;
        let reply = runtime()?.block_on(target.get(Protocol::Http1, "/"))?;
        Ok((reply.status.as_u16(), String::from_utf8_lossy(&reply.body).into_owned()))
    }
}

/// Keys that every verified pool has.
const VERIFIED: &str = "ca = \"ca.pem\"\nserver_name = \"www.bailey.test\"\n";

fn keys() -> Result<()> {
    // (pool and keys, word of nginx's answer)
    let good: [(Pool<'_>, &str); 9] = [
        (("plain", "", Server::Any), "HTTP/1.1 TLSv1.3 sni=www.bailey.test verify=NONE,"),
        (("shown", "certificate = \"own\"", Server::Asks), "verify=SUCCESS,CN=bailey"),
        (("unasked", "certificate = \"own\"", Server::Any), "verify=NONE,"),
        (
            ("pinned", "pins = [\"sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\", \"PIN\"]", Server::Any),
            "TLSv1.3",
        ),
        (("front", "sni = \"front.test\"", Server::Any), "sni=front.test"),
        (("old", "", Server::Old), "TLSv1.2"),
        (("low", "max_tls = \"1.2\"", Server::Any), "TLSv1.2"),
        (("two", "alpn = [\"h2\", \"http/1.1\"]", Server::Http2), "HTTP/2.0"),
        (("one", "alpn = [\"h2\", \"http/1.1\"]", Server::Any), "HTTP/1.1"),
    ];
    // (pool and keys, kind of failure)
    let bad: [(Pool<'_>, &str); 6] = [
        (("mispinned", "pins = [\"sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"]", Server::Any), "tls_pin"),
        (
            (
                "halfpinned",
                "verify = false\npins = [\"sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"]",
                Server::Any,
            ),
            "tls_pin",
        ),
        (("misnamed", "ca = \"ca.pem\"\nserver_name = \"other.test\"", Server::Any), "tls_verify"),
        (("mistrusted", "ca = \"clients.pem\"\nserver_name = \"www.bailey.test\"", Server::Any), "tls_verify"),
        (("new", "min_tls = \"1.3\"", Server::Old), "tls"),
        (("only", "alpn = [\"h2\"]", Server::Any), "tls"),
    ];
    let site = Site::new(|here| {
        let pin = pin(here)?;
        let whole = |keys: &str| match keys.contains("server_name") {
            true => keys.to_string(),
            false => format!("{VERIFIED}{}", keys.replace("PIN", &pin)),
        };
        let all = good.iter().chain(&bad);
        Ok(all.map(|((name, keys, server), _)| (*name, whole(keys), *server)).collect())
    })?;
    for ((pool, ..), word) in good {
        let (status, body) = site.get(pool)?;
        ensure!(status == 200 && body.contains(word), "{pool}: {status} {body}");
    }
    for ((pool, ..), kind) in bad {
        let (status, body) = site.get(pool)?;
        ensure!(status == 502, "{pool}: {status} {body}");
        let count = failures(&site.edge.metrics()?, pool, kind);
        ensure!(count >= 1.0, "{pool}: {count} of kind {kind}\n{}", site.edge.metrics_text()?);
    }
    let all = site.edge.metrics()?;
    for ((pool, ..), _) in good {
        let count = all.sum("bailey_backend_failures_total", &[("pool", pool)]);
        ensure!(count == 0.0, "{pool}: {count} failures");
    }
    let shown = site.edge.done(&["pool", "show", "shown"])?;
    ensure!(shown.contains("verified as www.bailey.test") && shown.contains("client certificate own"), "{shown}");
    Ok(())
}

fn failures(scrape: &Scrape, pool: &str, kind: &str) -> f64 {
    scrape.sum("bailey_backend_failures_total", &[("pool", pool), ("kind", kind)])
}

/// As the config's own help says that it is made.
fn pin(here: &Here) -> Result<String> {
    let pipeline = "openssl x509 -in edge.pem -noout -pubkey | openssl pkey -pubin -outform DER \
                    | openssl dgst -sha256 -binary | base64";
    Ok(format!("sha256/{}", finish(Command::new("sh").args(["-c", pipeline]).current_dir(here.folder()))?.trim()))
}

fn unverified() -> Result<()> {
    let site = Site::new(|_| {
        let sure = VERIFIED.to_string();
        Ok(vec![("blind", "verify = false".into(), Server::Any), ("sure", sure, Server::Any)])
    })?;
    let (status, body) = site.get("blind")?;
    ensure!(status == 200, "{status} {body}");
    let scrape = site.edge.metrics()?;
    for (pool, want) in [("blind", 1.0), ("sure", 0.0)] {
        let found = scrape.sum("bailey_backend_tls_unverified", &[("pool", pool)]);
        ensure!(found == want, "{pool}: {found}");
    }
    ensure!(site.edge.done(&["pool", "show", "blind"])?.contains("NOT VERIFIED"));
    ensure!(!site.edge.done(&["pool", "show", "sure"])?.contains("NOT VERIFIED"));
    let config = std::fs::read_to_string(site.here.file("bailey.toml"))?;
    let line = config.lines().position(|line| line == "verify = false").map_or(0, |at| at + 1);
    let told = format!(":{line}:10: warning: backends are not verified");
    let status = site.edge.cli(&["status"])?;
    ensure!(status.stdout.contains(&told), "{told:?} is not in {status:?}");
    let checked = site.here.check(&config)?;
    let said = format!("{}{}", checked.stdout, checked.stderr);
    ensure!(checked.code == Some(0) && said.contains("backends are not verified"), "{said}");
    ensure!(said.contains(&format!("checked.toml:{line}:")), "line {line} is not named:\n{said}");
    Ok(())
}

fn resumed() -> Result<()> {
    let site = Site::new(|_| {
        let pool = |name, more: &str, server| (name, format!("{VERIFIED}{more}"), server);
        Ok(vec![pool("new", "", Server::Http2), pool("old", "max_tls = \"1.2\"\n", Server::Http2)])
    })?;
    for (pool, version) in [("new", "TLSv1.3"), ("old", "TLSv1.2")] {
        let (_, first) = site.get(pool)?;
        ensure!(first.contains(version) && first.ends_with("reused=."), "{pool}: {first}");
        // Each worker thread remembers its own sessions.
        wait_ok("a session to be resumed", PATIENCE, || {
            let (status, body) = site.get(pool)?;
            ensure!(status == 200 && body.ends_with("reused=r"), "{pool}: {status} {body}");
            Ok(())
        })?;
    }
    Ok(())
}

fn multiplexed() -> Result<()> {
    let site = Site::new(|_| Ok(vec![("two", format!("{VERIFIED}alpn = [\"h2\"]\n"), Server::Http2)]))?;
    let (url, to) = (format!("https://two.bailey.test:{}/", site.at.port()), site.at.to_string());
    let said = run("h2load", &["-n", "400", "-c", "4", "-m", "10", "--connect-to", &to, &url], "")?;
    ensure!(said.has("400 succeeded, 0 failed") && said.has("400 2xx"), "{}", said.text);
    let scrape = site.edge.metrics()?;
    ensure!(scrape.sum("bailey_backend_failures_total", &[]) == 0.0, "{}", site.edge.metrics_text()?);
    ensure!(site.get("two")?.1.starts_with("HTTP/2.0"), "and not HTTP/2 to {HOST}");
    Ok(())
}
