//! Compressed answers as curl takes them, of nginx behind the edge: what comes out is the file, whatever the coding; parts
//! of it, and what may not be touched, stay as they are.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use lb_tests::harness::{plain, with};
use lb_tests::here::{Here, free_address};
use lb_tests::peers::nginx;
use lb_tests::programs::run;

fn main() -> ExitCode {
    lb_tests::harness::main(vec![
        with("curl_gets_the_file_whatever_the_coding_and_parts_of_it_untouched", &["nginx", "curl"], file),
        plain("a_wrong_key_of_compression_says_where_what_and_the_remedy", wrong),
    ])
}

const SERVICE: &str = "mode = \"http\"\npool = \"app\"\n";

fn file() -> Result<()> {
    let (here, at, backend) = (Here::new()?, free_address()?, free_address()?);
    let text: String = (0..20_000).map(|n| format!("line {n} of a file that repeats itself\n")).collect();
    std::fs::write(here.file("page.html"), &text)?;
    std::fs::write(here.file("page.png"), &text)?;
    let root = here.folder().display();
    let servers = format!(
        "types {{ text/html html; image/png png; }}\n\
         server {{ listen {backend}; root {root}; location /raw/ {{ alias {root}/; add_header cache-control no-transform; }} }}\n"
    );
    let _nginx = nginx(here.folder(), &servers, backend)?;
    let config = here.head("")
        + &format!(
            "[service.web]\naddresses = [\"{at}\"]\n{SERVICE}compression = true\n\
             [[service.web.routes]]\nname = \"off\"\npath = \"/off\"\ncompression = false\npool = \"app\"\n\
             [pool.app]\nbackends = [\"{backend}\"]\n"
        );
    let edge = here.start(&config)?;
    let fetch = |coding: &str, path: &str, more: &[&str]| -> Result<(String, Vec<u8>)> {
        let out = here.file("out");
        let url = format!("http://{at}{path}");
        let accept = format!("accept-encoding: {coding}");
        let out_name = out.to_string_lossy();
        let words = ["-sS", "--compressed", "-D", "-", "-o", &out_name, "-H", &accept];
        let said = run("curl", &[&words, more, &[url.as_str()]].concat(), "")?;
        ensure!(said.code == Some(0), "{said:?}");
        Ok((said.text.to_lowercase(), std::fs::read(&out)?))
    };
    for (coding, more) in ["gzip", "br", "zstd"].iter().flat_map(|c| [(c, "--http1.1"), (c, "--http2-prior-knowledge")])
    {
        let (head, body) = fetch(coding, "/page.html", &[more])?;
        ensure!(head.contains(&format!("content-encoding: {coding}")) && head.contains("etag: w/\""), "{head}");
        ensure!(!head.contains("accept-ranges") && !head.contains("content-length"), "{head}");
        ensure!(body == text.as_bytes(), "{coding} {more}: {} bytes", body.len());
    }
    for (path, more) in [
        ("/page.png", &[][..]),
        ("/raw/page.html", &[]),
        ("/page.html", &["--http1.0"]),
        ("/page.html", &["-H", "range: bytes=100-199"]),
    ] {
        let (head, body) = fetch("gzip", path, more)?;
        ensure!(!head.contains("content-encoding"), "{path} {more:?}: {head}");
        let want = if more.len() == 2 { &text.as_bytes()[100..200] } else { text.as_bytes() };
        ensure!(body == want, "{path} {more:?}: {} bytes", body.len());
    }
    let metrics = edge.metrics()?;
    ensure!(metrics.sum("bailey_compressed_responses_total", &[("service", "web")]) == 6.0);
    let bytes = |direction| metrics.sum("bailey_compressed_bytes_total", &[("direction", direction)]);
    ensure!(bytes("in") == 6.0 * text.len() as f64 && bytes("out") < bytes("in") / 5.0);
    Ok(())
}

fn wrong() -> Result<()> {
    let here = Here::new()?;
    for (keys, problem, remedy) in [
        ("compression = { algorithms = [\"brotli\"] }", "\"brotli\" is no algorithm", "\"zstd\", \"br\" or \"gzip\""),
        ("compression = { algorithms = [] }", "no algorithm is left", "compression = false"),
        ("compression = { types = [\"html\"] }", "\"html\" is no media type", "text/html"),
        ("compression = { types = [\"image/png\"] }", "\"image/png\" is compressed already", "leave it out"),
        ("compression = { min_size = \"1GB\" }", "\"1GB\" is no size", "16KiB"),
        ("compression = { level = 3 }", "unknown key `level`", "algorithms"),
        ("compression = 3", "must be a table", "a table"),
    ] {
        let config = format!(
            "[edge]\ndatapath = \"sockets\"\n[service.web]\naddresses = [\"127.0.0.1:80\"]\n{SERVICE}{keys}\n\
             [pool.app]\nbackends = [\"127.0.0.1:1\"]\n"
        );
        let said = format!("{:?}", here.check(&config)?);
        let said = said.replace("\\\\\"", "\"").replace("\\\"", "\"");
        ensure!(said.contains(problem) && said.contains(remedy), "{keys}: {said}");
    }
    Ok(())
}
