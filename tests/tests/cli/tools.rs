//! What an operator looks with: `doctor`, `top`, `trace`.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::client::Protocol;
use lb_tests::edge::{Edge, Outcome, cli_command};
use lb_tests::here::{Here, free_address};
use lb_tests::lab::{CLIENT4, EDGE4, HOST, Lab, VIP4};
use lb_tests::need::binary;
use lb_tests::wait::{PATIENCE, wait_ok};
use serde_json::Value;

use crate::terminal::unhealthy;

fn doctor(words: &[&str]) -> Result<Outcome> {
    cli_command(Command::new(binary("bailey")?).arg("doctor").args(words))
}

pub(crate) fn of_sockets() -> Result<()> {
    let (here, edge) = unhealthy()?;
    let (config, socket) = (here.file("bailey.toml"), here.file("admin.sock"));
    let words = ["--config", &config.to_string_lossy(), "--socket", &socket.to_string_lossy()].map(String::from);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = doctor(&words)?;
    // The daemon's pool has no backend; nothing else fails.
    ensure!(outcome.code == Some(1) && outcome.stdout.contains("FAIL  daemon"), "{outcome:?}");
    ensure!(outcome.stdout.matches("FAIL").count() == 1 && outcome.stdout.contains(", 1 failed"), "{outcome:?}");
    edge.done(&["pool", "add", "app", "127.0.0.1:9"])?;
    let outcome = doctor(&words)?;
    ensure!(outcome.code == Some(0) && !outcome.stdout.contains("FAIL"), "{outcome:?}");

    let broken = here.file("broken.toml");
    std::fs::write(&broken, "[edge]\nnonsense = 1\n")?;
    let outcome = doctor(&["--config", &broken.to_string_lossy(), "--json"])?;
    let said: Value = serde_json::from_str(&outcome.stdout)?;
    let finding = said["findings"].as_array().context("findings")?.iter().find(|f| f["check"] == "config");
    let next = finding.context("of the config")?["next"].as_str().context("what to do")?;
    ensure!(outcome.code == Some(1) && said["ok"] == false && next.contains("bailey check --config"), "{said}");
    Ok(())
}

pub(crate) fn of_the_kernel() -> Result<()> {
    let lab = Lab::new(0)?;
    let edge = Edge::start(&lab, &lab.site("", "").replace("backends = []", "backends = [\"10.78.1.2:80\"]"))?;
    let config = lab.folder().join("bailey.toml");
    let mut command = lab.edge.host_command(binary("bailey")?);
    command.arg("doctor").arg("--config").arg(&config).arg("--socket").arg(lab.folder().join("admin.sock"));
    let outcome = cli_command(&mut command)?;
    ensure!(outcome.code == Some(0), "{outcome:?}");
    for good in
        ["ok    programs", "ok    BPF", "ok    capabilities", "ok    worker", "ok    daemon", "the kernel takes them"]
    {
        ensure!(outcome.stdout.contains(good), "no {good:?}: {outcome:?}");
    }
    // It looked at a programs' copy; the edge's own serve on.
    ensure!(edge.json(&["status"])?["worker"]["up"] == true);
    std::fs::write(&config, std::fs::read_to_string(&config)?.replace("\"wan\"", "\"nowan\""))?;
    let outcome = cli_command(&mut command)?;
    ensure!(outcome.code == Some(1) && outcome.stdout.contains("nowan"), "{outcome:?}");
    Ok(())
}

pub(crate) fn top() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let edge = Edge::start(&lab, &lab.site("", ""))?;
    let target = lab.target(VIP4, 443)?;
    let once = |more: &[&str]| edge.done(&[&["top", "--once", "--every", "1"], more].concat());
    // Counters come from the threads now and then: until the requests of a second are seen in one look.
    wait_ok("rates", PATIENCE, || {
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| once(&["--json"]));
            for _ in 0..20 {
                lab.client.run_async(|| async { target.get(Protocol::Http1, "/").await })?;
            }
            let said: Value = serde_json::from_str(&looking.join().ok().context("a look")??)?;
            let (service, backend) = (&said["services"][0], &said["backends"][0]);
            ensure!(service["name"] == "web" && backend["pool"] == "app" && backend["state"] == "up", "{said}");
            let positive = |value: &Value| value.as_f64().is_some_and(|rate| rate > 0.0);
            ensure!(positive(&service["requests"]) && positive(&backend["requests"]), "{said}");
            ensure!(positive(&service["packets"]) && positive(&service["mean_ms"]), "{said}");
            Ok(())
        })
    })?;
    let table = once(&["--sort", "name"])?;
    for word in ["SERVICE", "web", "https", "BACKEND", "10.78.1.2:8080", "healthy"] {
        ensure!(table.contains(word), "no {word:?} in\n{table}");
    }
    Ok(())
}

pub(crate) fn trace() -> Result<()> {
    let here = Here::new()?;
    let [web, bytes] = [free_address()?, free_address()?];
    let config = format!(
        "[service.web]\naddresses = [\"{web}\"]\nmode = \"https\"\ncertificates = [\"lab\"]\n\
         [[service.web.routes]]\nname = \"shop\"\nhosts = [\"{HOST}\"]\npath = \"/shop\"\npool = \"app\"\n\
         [[service.web.routes]]\nname = \"closed\"\npath = \"/closed\"\nrespond = 403\n\
         [[service.web.routes]]\nname = \"empty\"\npath = \"/empty\"\npool = \"none\"\n\
         [service.bytes]\naddresses = [\"{bytes}\"]\nmode = \"tcp\"\npool = \"app\"\n\
         [pool.app]\nbackends = [\"127.0.0.1:9\"]\n[pool.none]\nbackends = []\n"
    );
    let edge = here.start(&(here.head("") + &config))?;
    let url = |path: &str| format!("https://{HOST}:{}{path}", web.port());
    for (target, more, code, said) in [
        (url("/shop/x?y=1"), &[][..], 0, "shop: app"),
        (url("/closed"), &["-X", "POST", "-H", "x: y"], 0, "closed: answer 403"),
        (url("/"), &[], 1, "none takes it: 404"),
        (url("/empty"), &[], 1, "no backend may be chosen: 503"),
        (format!("https://nowhere.invalid:{}/shop", web.port()), &["--sni", HOST], 1, "none takes it: 404"),
        (bytes.to_string(), &[], 0, "127.0.0.1:9 up"),
        ("127.0.0.1:1/udp".into(), &[], 1, "no service has 127.0.0.1:1/udp"),
    ] {
        let words = [&["trace", "203.0.113.7", &target], more].concat();
        let outcome = edge.cli(&words)?;
        ensure!(outcome.code == Some(code) && outcome.stdout.contains(said), "{words:?}: {outcome:?}");
        let outcome = edge.cli(&[&words[..], &["--json"]].concat())?;
        let view: Value = serde_json::from_str(&outcome.stdout)?;
        ensure!(outcome.code == Some(code) && view["arrives"] == (code == 0), "{words:?}: {view}");
    }
    let outcome = edge.cli(&["trace", "203.0.113.7", "https://nowhere.invalid/"])?;
    ensure!(outcome.code == Some(1) && outcome.stderr.contains("--to IP"), "{outcome:?}");
    Ok(())
}

pub(crate) fn trace_live() -> Result<()> {
    let lab = Lab::new(1)?;
    let _backends = lab.start_backends()?;
    let edge = Edge::start(&lab, &lab.site("steering = \"hash\"", ""))?;
    let (client, url, to) = (CLIENT4.to_string(), format!("https://{HOST}/"), VIP4.to_string());
    let said = edge.done(&["trace", &format!("{client}:40000"), &url, "--to", &to])?;
    for part in ["10.99.0.1:443/tcp is web", "no rule for 10.77.0.2", "worker ", "10.78.1.2:8080 up", "it arrives"] {
        ensure!(said.contains(part), "no {part:?}: {said}");
    }
    edge.done(&["deny", "add", &client])?;
    std::thread::scope(|scope| {
        let words = ["trace", &client, &url, "--to", &to, "--live", "--for", "4", "--json"];
        let tracing = scope.spawn(move || edge.cli(&words));
        // Nobody answers it; each try is a SYN or two.
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            let knock = || Ok(std::net::TcpStream::connect_timeout(&(VIP4, 443).into(), Duration::from_millis(300))?);
            ensure!(lab.client.run(knock).is_err(), "a denied client has a connection");
        }
        let outcome = tracing.join().ok().context("the trace")??;
        let mut lines = outcome.stdout.lines().map(serde_json::from_str::<Value>);
        let way = lines.next().context("the way")??;
        let last = way["steps"].as_array().and_then(|steps| steps.last()).context("its last step")?;
        ensure!(
            way["arrives"] == false && last["says"].as_str().is_some_and(|says| says.contains("denied by")),
            "{way}"
        );
        let dropped = lines.next().context("a dropped packet")??;
        ensure!(dropped["verdict"] == "denied" && dropped["service"] == "web", "{dropped}");
        let from = dropped["source"].as_str().context("its source")?;
        ensure!(from.starts_with(&format!("{client}:")) && !from.starts_with(&EDGE4.to_string()), "{from}");
        ensure!(outcome.code == Some(1), "{outcome:?}");
        Ok(())
    })
}
