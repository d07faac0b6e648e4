//! Limits of clients, by h2load and curl.

use anyhow::{Context, Result, ensure};
use lb_tests::backend::Backend;
use lb_tests::harness::{Test, with};
use lb_tests::here::{Here, free_address};
use lb_tests::programs::{curl, run};

pub(crate) fn tests() -> Vec<Test> {
    vec![with("a_source_over_its_rate_gets_429_and_others_go_on", &["h2load", "curl"], rates)]
}

/// Answers of a class that h2load counted.
pub(crate) fn counted(output: &str, class: &str) -> Result<u64> {
    let line = output.lines().find_map(|line| line.strip_prefix("status codes:"));
    let line = line.with_context(|| format!("h2load has no result:\n{output}"))?;
    let part = line.split(',').find_map(|part| part.trim().strip_suffix(class)).context("no such class")?;
    Ok(part.trim().parse()?)
}

fn rates() -> Result<()> {
    let here = Here::new()?;
    let backend = Backend::start_here("app")?;
    let at = free_address()?;
    let edge = here.start(&format!(
        "{}[service.web]\naddresses = [\"{at}\"]\nmode = \"http\"\npool = \"app\"\n\
         limits = {{ per_source_requests_per_second = 1, per_source_burst = 50 }}\n\
         [pool.app]\nbackends = [\"{}\"]\n",
        here.head(""),
        backend.address
    ))?;
    let began = std::time::Instant::now();
    let url = format!("http://{at}/");
    let said = run("h2load", &["-n", "300", "-c", "6", "--h1", &url], "")?;
    let (good, refused) = (counted(&said.text, " 2xx")?, counted(&said.text, " 4xx")?);
    let most = 51 + began.elapsed().as_secs();
    ensure!((50..=most).contains(&good) && good + refused == 300, "{good} and {refused} in {:?}", began.elapsed());
    let said = curl(at, &[], &here.ca(), &[&url])?;
    if said.status(429) {
        ensure!(said.text.to_lowercase().contains("retry-after: 1"), "{}", said.text);
    }
    ensure!(curl(at, &[], &here.ca(), &["--interface", "127.0.0.2", &url])?.status(200));
    let limited = edge.metrics()?.sum("bailey_limited_total", &[("service", "web"), ("limit", "source_requests")]);
    ensure!(limited >= refused as f64, "{limited} counted");
    Ok(())
}
