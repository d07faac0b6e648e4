//! What routes do.

use anyhow::{Result, ensure};
use lb_tests::harness::{Test, with};
use lb_tests::programs::curl;
use lb_tests::wait::{PATIENCE, wait_ok};

use crate::site::Site;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("one_line_sends_http_to_https_and_curl_follows", &["nginx", "curl"], to_https),
        with("a_canary_gets_exactly_its_share_and_who_asks_for_it", &["nginx", "curl"], canary),
        with("what_is_rewritten_for_nginx_is_changed_back_for_curl", &["nginx", "curl"], rewritten),
        with("headers_are_changed_both_ways_and_forged_ones_are_gone", &["nginx", "curl"], headers),
        with("the_file_alone_tells_which_route_takes_a_request", &["nginx"], told),
        with("a_mirror_gets_its_share_and_the_client_never_sees_it", &["nginx", "curl"], mirror),
    ]
}

fn to_https() -> Result<()> {
    let plain = "redirect_https = true\n[[service.plain.routes]]\npath = \"/.well-known\"\npool = \"two\"\n";
    let site = Site::new("pool = \"one\"", plain, "", |_| Ok(()))?;
    let at = |path: &str| format!("http://www.bailey.test:{}{path}", site.plain.port());
    let ask = |arguments: &[&str]| curl(site.plain, &["www.bailey.test"], &site.here.ca(), arguments);
    let said = ask(&["-X", "POST", "-d", "x", &at("/a?b=c")])?;
    ensure!(said.status(308) && said.has("ocation: https://www.bailey.test/a?b=c"), "{said:?}");
    let said = ask(&[&at("/.well-known/x")])?;
    ensure!(said.status(200) && said.has("two GET /.well-known/x"), "{said:?}");
    let port = format!("redirect_https = {{ code = 301, port = {} }}", site.web.port());
    let file = std::fs::read_to_string(site.here.file("bailey.toml"))?;
    site.edge.rewrite(&file.replace("redirect_https = true", &port))?;
    site.edge.done(&["reload"])?;
    let resolve = format!("www.bailey.test:{}:{}", site.web.port(), site.web.ip());
    let said = ask(&["-L", "--resolve", &resolve, &at("/a?b=c")])?;
    ensure!(said.status(301) && said.status(200) && said.has("one GET /a?b=c host=www.bailey.test"), "{said:?}");
    Ok(())
}

fn canary() -> Result<()> {
    let routes = "[[service.web.routes]]\npools = { one = 9, two = 1 }\n\
                  [[service.web.routes]]\nheaders = { x-canary = \"yes\" }\npool = \"two\"\n";
    let site = Site::new("", "pool = \"one\"", routes, |_| Ok(()))?;
    let url = format!("https://www.bailey.test:{}/n/[1-200]", site.web.port());
    // One connection, so one worker, whose shares are exact.
    let said = curl(site.web, &["www.bailey.test"], &site.here.ca(), &[&url])?;
    let count = |name: &str| said.text.matches(&format!("\n{name} GET /n/")).count();
    ensure!((count("one"), count("two")) == (180, 20), "{} and {}", count("one"), count("two"));
    let said = site.get("/", &["-H", "X-Canary: yes"])?;
    ensure!(said.has("two GET /"), "{said:?}");
    Ok(())
}

fn rewritten() -> Result<()> {
    let routes = "[[service.web.routes]]\npath = \"/shop\"\npool = \"one\"\n\
                  rewrite = { host = \"shop.internal\", path_prefix = \"/v1\" }\n\
                  [[service.web.routes]]\npath_regex = '^/u/([a-z]+)$'\npool = \"two\"\n\
                  rewrite.path_regex = { pattern = '^/u/(.*)$', with = '/users/$1' }\n\
                  [[service.web.routes]]\npool = \"two\"\n";
    let site = Site::new("", "pool = \"one\"", routes, |_| Ok(()))?;
    let root = format!("https://www.bailey.test:{}", site.web.port());
    for version in ["--http1.1", "--http2"] {
        let said = site.get("/shop/x?y=1", &[version])?;
        ensure!(said.has("one GET /v1/x?y=1 host=shop.internal"), "{said:?}");
        let said = site.get("/u/joe?y=1", &[version])?;
        ensure!(said.has("two GET /users/joe?y=1 host=www.bailey.test"), "{said:?}");
        let said = site.get("/shop/go", &[version])?;
        ensure!(said.has(&format!("ocation: {root}/shop/there")), "{said:?}");
        ensure!(said.has("id=1; Path=/shop; HttpOnly; Priority=High; Secure"), "{said:?}");
        // nginx's own: an absolute address with its own port.
        let said = site.get("/shop/dir", &[version, "-L"])?;
        ensure!(said.has(&format!("ocation: {root}/shop/dir/")) && said.has("one GET /v1/dir/"), "{said:?}");
        // Nothing is rewritten on the way there, and still the client stays on HTTPS.
        let said = site.get("/v1/go", &[version])?;
        ensure!(said.has(&format!("ocation: {root}/v1/there")), "{said:?}");
    }
    Ok(())
}

fn headers() -> Result<()> {
    let routes = "[[service.web.routes]]\npool = \"one\"\n\
                  request_headers.set = { x-client = \"${client.ip} ${tls.version} ${lower(header('x-name'))}\" }\n\
                  request_headers.remove = [\"x-forged\"]\n\
                  response_headers.set = { x-told = \"${pool} ${response.status} ${request.method}\" }\n\
                  response_headers.remove = [\"server\"]\n";
    let site = Site::new("", "pool = \"one\"", routes, |_| Ok(()))?;
    let said = site.get("/", &["-H", "X-Client: 6.6.6.6", "-H", "X-Forged: 1", "-H", "X-Name: JOE"])?;
    ensure!(said.has("client=127.0.0.1 1.3 joe cert= forged=\n"), "{said:?}");
    ensure!(said.has("x-told: one 200 GET") && !said.has("erver: nginx"), "{said:?}");
    Ok(())
}

fn told() -> Result<()> {
    let routes = "[[service.web.routes]]\nname = \"old\"\npath_exact = \"/old\"\nredirect = \"/new\"\n\
                  [[service.web.routes]]\nname = \"office\"\nclients = [\"10.0.0.0/8\"]\nheaders = { x-a = \"1\" }\npool = \"two\"\n\
                  [[service.web.routes]]\nname = \"known\"\nhosts = [\"www.bailey.test\"]\npools = { one = 9, two = 1 }\n";
    let site = Site::new("", "pool = \"one\"", routes, |_| Ok(()))?;
    let config = site.here.file("bailey.toml");
    let config = config.to_string_lossy();
    let ask = |words: &[&str]| site.edge.cli(&[&["route", "test", "--config", &*config], words].concat());
    for (words, said, code) in [
        (&["web", "GET", "https://x.test/old"][..], "route old: redirect 302", 0),
        (&["web", "GET", "https://www.bailey.test/old"], "route known: one 9, two 1", 0),
        (&["web", "GET", "https://other.test/", "--client", "10.1.1.1", "-H", "X-A: 1"], "route office: two", 0),
        (&["web", "GET", "https://other.test/", "--client", "10.1.1.1"], "no route: 404", 1),
        (&["plain", "GET", "http://other.test/"], "route default: one", 0),
        (&["none", "GET", "http://other.test/"], "there are: plain, web", 2),
        (&["plain", "GET", "/path"], "whole address", 2),
    ] {
        let outcome = ask(words)?;
        let text = outcome.stdout + &outcome.stderr;
        ensure!(outcome.code == Some(code) && text.contains(said), "{words:?}: {:?} {text}", outcome.code);
    }
    Ok(())
}

fn mirror() -> Result<()> {
    let routes = "[[service.web.routes]]\npool = \"one\"\nmirror = { pool = \"two\", percent = 50 }\n";
    let site = Site::new("", "pool = \"one\"", routes, |_| Ok(()))?;
    let url = format!("https://www.bailey.test:{}/n/[1-40]", site.web.port());
    let said = curl(site.web, &["www.bailey.test"], &site.here.ca(), &["-d", "body", &url])?;
    ensure!(said.text.matches("\none POST /n/").count() == 40 && !said.has("\ntwo "), "{said:?}");
    // One connection, so one worker, whose share is exact.
    wait_ok("the mirror's answers", PATIENCE, || {
        let metrics = site.edge.metrics()?;
        let of = |result| metrics.sum("bailey_http_mirrored_total", &[("result", result)]);
        // nginx may answer before it has the body; then there is no copy of it.
        let all = ["answered", "incomplete"].map(of);
        ensure!(all[0] + all[1] == 20.0 && all[0] > 0.0, "{all:?} of 40");
        Ok(())
    })?;
    let before = site.edge.metrics()?.sum("bailey_http_mirrored_total", &[("result", "answered")]);
    curl(site.web, &["www.bailey.test"], &site.here.ca(), &[&url])?;
    wait_ok("the mirror's answers to requests without body", PATIENCE, || {
        let answered = site.edge.metrics()?.sum("bailey_http_mirrored_total", &[("result", "answered")]) - before;
        ensure!(answered == 20.0, "{answered} of 40");
        Ok(())
    })?;
    Ok(())
}
