//! `Expect: 100-continue` by curl: the body is asked for when it is wanted, and not before a refusal.

use anyhow::{Result, ensure};
use lb_tests::backend::{Backend, pattern_bytes};
use lb_tests::harness::{Test, with};
use lb_tests::here::{Here, free_address};
use lb_tests::programs::curl;

pub(crate) fn tests() -> Vec<Test> {
    vec![with("curl_is_told_to_continue_only_where_its_body_is_wanted", &["curl"], continues)]
}

fn continues() -> Result<()> {
    let here = Here::new()?;
    let backend = Backend::start_here("app")?;
    let at = free_address()?;
    let _edge = here.start(&format!(
        "{}[service.web]\naddresses = [\"{at}\"]\nmode = \"http\"\n[[service.web.routes]]\npath = \"/here\"\npool = \"app\"\n\
         [pool.app]\nbackends = [\"{}\"]\n",
        here.head(""),
        backend.address
    ))?;
    std::fs::write(here.file("body"), pattern_bytes(2 << 20))?;
    let body = here.file("body").display().to_string();
    let put = |path: &str| {
        let url = format!("http://{at}{path}");
        // Longer than the test lasts: curl goes on by itself after its patience.
        let words = ["-T", &body, "-H", "Expect: 100-continue", "--expect100-timeout", "60", &url];
        curl(at, &[], &here.ca(), &words)
    };
    let taken = put("/here")?;
    ensure!(taken.has("HTTP/1.1 100 Continue") && taken.status(200), "{}", taken.text);
    ensure!(
        backend.seen().last().is_some_and(|seen| seen.body_bytes == 2 << 20 && !seen.headers.contains_key("expect"))
    );
    let refused = put("/nowhere")?;
    ensure!(refused.status(404) && !refused.has("100 Continue"), "{}", refused.text);
    Ok(())
}
