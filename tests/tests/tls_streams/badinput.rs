//! Wrong keys of streams and of TLS towards backends: file and line, what is wrong, and what to write instead.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use lb_tests::edge::{Outcome, check, cli_command};
use lb_tests::harness::{Test, plain};
use lb_tests::lab::folder;
use lb_tests::need::binary;
use lb_tests::pki::Authority;

pub(crate) fn tests() -> Vec<Test> {
    vec![plain("each_wrong_key_of_streams_and_upstream_tls_says_where_what_and_the_remedy", wrong)]
}

const GOOD: &str = "[edge]\ndatapath = \"sockets\"\n\
[certificate.site]\nchain = \"site.pem\"\nkey = \"site.key\"\n\
[service.web]\naddresses = [\"127.0.0.1:8443\"]\nmode = \"https\"\ncertificates = [\"site\"]\npool = \"app\"\n\
[service.pass]\naddresses = [\"127.0.0.1:8444\"]\nmode = \"passthrough\"\npool = \"raw\"\n\
[service.mail]\naddresses = [\"127.0.0.1:8993\"]\nmode = \"tls\"\ncertificates = [\"site\"]\nalpn = [\"imap\"]\npool = \"mail\"\n\
[pool.app]\nbackends = [\"127.0.0.1:8080\"]\n\
[pool.app.tls]\nca = \"ca.pem\"\nserver_name = \"site.test\"\ncertificate = \"site\"\n\
[pool.raw]\nbackends = [\"127.0.0.1:8081\"]\nproxy_protocol = \"v2\"\n\
[pool.mail]\nbackends = [\"127.0.0.1:8082\"]\n\
[pool.mail.tls]\nca = \"ca.pem\"\nserver_name = \"site.test\"\nalpn = [\"imap\"]\n";

/// What is put where, after which line; the words of what is wrong; words of the remedy.
type Wrong = (&'static str, &'static str, &'static str, &'static str);

/// A line that comes after one of [`GOOD`].
const ADDED: [Wrong; 16] = [
    (
        "[pool.app]",
        "proxy_protocol = \"v2\"",
        "does not go with service \"web\" of mode \"https\"",
        "modes \"tls\", \"passthrough\" and \"tcp\" send it",
    ),
    ("mode = \"https\"", "alpn = [\"h2\"]", "`alpn` belongs to mode \"tls\"", "remove `alpn`"),
    (
        "mode = \"passthrough\"",
        "alpn = [\"h2\"]",
        "`alpn` belongs to mode \"tls\"",
        "the backend ends the clients' TLS",
    ),
    ("mode = \"passthrough\"", "certificates = [\"site\"]", "`certificates` belongs to modes", "remove `certificates`"),
    (
        "mode = \"passthrough\"",
        "client_cert = { mode = \"required\", ca = \"ca.pem\" }",
        "`client_cert` belongs to modes",
        "remove `client_cert`",
    ),
    ("mode = \"passthrough\"", "tls_policy = \"modern\"", "`tls_policy` belongs to modes", "remove `tls_policy`"),
    (
        "mode = \"passthrough\"",
        "routes = [{ path = \"/a\", pool = \"raw\" }]",
        "`path` belongs to modes",
        "remove `path`",
    ),
    (
        "mode = \"https\"",
        "routes = [{ alpn = [\"h2\"], pool = \"app\" }]",
        "`alpn` belongs to modes \"tls\" and \"passthrough\"",
        "remove `alpn`",
    ),
    (
        "mode = \"tls\"",
        "routes = [{ alpn = [\"mqtt\"], pool = \"mail\" }]",
        "\"mqtt\" is never agreed on",
        "add it to the service's `alpn`",
    ),
    ("mode = \"tls\"", "hsts = true", "`hsts` belongs to mode \"https\"", "remove `hsts`"),
    (
        "mode = \"tls\"",
        "routes = [{ client_cert_headers = { \"x\" = \"pem\" }, pool = \"mail\" }]",
        "`client_cert_headers` belongs to mode \"https\"",
        "remove `client_cert_headers`",
    ),
    ("[pool.app.tls]", "pins = [\"sha256/abc\"]", "\"sha256/abc\" is no pin", "44 characters of base64"),
    (
        "[pool.app.tls]",
        "min_tls = \"1.3\"\nmax_tls = \"1.2\"",
        "no version of TLS is left",
        "`min_tls` that is not above `max_tls`",
    ),
    (
        "[pool.app.tls]",
        "alpn = [\"imap\"]",
        "requests of service \"web\" cannot be sent by \"imap\"",
        "write \"h2\", \"http/1.1\" or both",
    ),
    ("[pool.app.tls]", "server_nam = \"a.test\"", "server_nam", "server_name"),
    ("[pool.app.tls]", "sni = \"192.0.2.1\"", "\"192.0.2.1\" is an address", "leave it out"),
];

/// A line of [`GOOD`], the last of its kind, that becomes another one.
const CHANGED: [Wrong; 9] = [
    ("certificate = \"site\"", "certificate = \"sight\"", "there is no certificate \"sight\"", "or use one of: site"),
    ("proxy_protocol = \"v2\"", "proxy_protocol = \"v3\"", "\"v3\" is none of", "did you mean"),
    ("server_name = \"site.test\"", "sni = \"site.test\"", "a `server_name` that is not there", "write server_name"),
    ("ca = \"ca.pem\"", "ca = \"gone.pem\"", "gone.pem", ""),
    ("ca = \"ca.pem\"", "ca = \"site.key\"", "site.key", ""),
    ("server_name = \"site.test\"", "server_name = \"not a name\"", "not a name", ""),
    ("alpn = [\"imap\"]", "alpn = [\"two words\"]", "\"two words\" is no protocol's name", "such as \"imap\""),
    ("alpn = [\"imap\"]", "alpn = \"imap\"", "alpn", "["),
    ("pool = \"raw\"", "pool = \"row\"", "there is no pool \"row\"", "did you mean \"raw\"?"),
];

fn wrong() -> Result<()> {
    let folder = folder()?;
    let authority = Authority::new("check")?;
    authority.save(&folder.path().join("ca.pem"))?;
    authority.issue(folder.path(), "site", &["site.test"])?;
    let good = check(folder.path(), GOOD)?;
    ensure!(good.code == Some(0), "{good:?}");
    for (after, added, what, remedy) in ADDED {
        let at = GOOD.find(after).context(after)? + after.len() + 1;
        refused(folder.path(), &format!("{}{added}\n{}", &GOOD[..at], &GOOD[at..]), at, (what, remedy))?;
    }
    for (before, after, what, remedy) in CHANGED {
        let at = GOOD.rfind(&format!("\n{before}\n")).context(before)? + 1;
        let config = format!("{}{after}{}", &GOOD[..at], &GOOD[at + before.len()..]);
        refused(folder.path(), &config, at, (what, remedy))?;
    }
    Ok(())
}

/// Refused at the line where `at` is, with these words, for people and for programs.
fn refused(folder: &Path, config: &str, at: usize, (what, remedy): (&str, &str)) -> Result<()> {
    let line = config[..at].lines().count() + 1;
    let people: Outcome = check(folder, config)?;
    ensure!(people.code == Some(1), "not refused for {what:?}: {people:?}");
    ensure!(people.stdout.contains(&format!("checked.toml:{line}:")), "{what:?}, line {line}: {}", people.stdout);
    let file = folder.join("checked.toml");
    let mut command = std::process::Command::new(binary("bailey")?);
    let programs = cli_command(command.args(["check", "--json", "--config"]).arg(&file))?;
    let told: serde_json::Value = serde_json::from_str(&programs.stdout).context(programs.stdout.clone())?;
    let problems = told["problems"].as_array().context("no problems")?;
    let word = |problem: &serde_json::Value, key: &str| problem[key].as_str().unwrap_or_default().to_string();
    let found = problems.iter().any(|problem| {
        problem["line"] == line
            && problem["severity"] == "error"
            && word(problem, "message").contains(what)
            && !word(problem, "help").is_empty()
            && word(problem, "help").contains(remedy)
    });
    ensure!(found, "no {what:?} with {remedy:?} in line {line}: {told:#}");
    // The key stands alone: nothing else is blamed for it.
    let errors = problems.iter().filter(|problem| problem["severity"] == "error").count();
    ensure!(errors == 1, "{what:?}: {errors} errors: {told:#}");
    Ok(())
}
