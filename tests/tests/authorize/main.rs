//! Authorizers, with real clients and nginx as backends and as who is asked: the site that the appliance served, and
//! what becomes of requests when nobody can be asked.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use lb_tests::edge::Edge;
use lb_tests::harness::with;
use lb_tests::here::{Here, free_address};
use lb_tests::peers::nginx;
use lb_tests::pki::{Authority, Order};
use lb_tests::process::Process;
use lb_tests::programs::{Said, curl, run_for};

fn main() -> ExitCode {
    lb_tests::harness::main(vec![
        with("the_appliances_site_is_served_as_it_was", &["nginx", "curl"], site),
        with("a_storm_of_devices_is_one_callout_each", &["nginx", "h2load"], storm),
        with("an_authorizer_that_is_down_shuts_the_door_and_says_so", &["nginx", "curl"], down),
        with("a_wrong_authorizer_is_refused_and_the_last_good_one_goes_on", &["nginx", "curl"], wrong),
    ])
}

const HOST: &str = "mdm.bailey.test";

/// The device manager, the mail server and who is asked about devices, all by nginx; and the edge in front of them.
struct Site {
    here: Here,
    edge: Edge<'static>,
    at: SocketAddr,
    config: String,
    nginx: Process,
}

impl Site {
    fn new(authorizer: &str) -> Result<Self> {
        let (here, at) = (Here::new()?, free_address()?);
        let devices = Authority::new("Devices")?;
        devices.save(&here.file("devices.pem"))?;
        devices.order(here.folder(), "phone", &Order::client())?;
        let [manager, mail, callout] = [free_address()?, free_address()?, free_address()?];
        // What is asked about is written down; who says "Allow" to all but one.
        let servers = format!(
            "log_format asked '$request_uri';\n\
             map $arg_DeviceId $said {{ default Allow; thief \"Deny\\n\"; }}\n\
             server {{ listen {manager}; location / {{ return 200 \"manager cert=$http_nsclientcert ip=$http_client_ip\"; }} }}\n\
             server {{ listen {mail}; location / {{ return 200 \"mail cert=$http_nsclientcert user=$http_x_user\"; }} }}\n\
             server {{ listen {callout}; access_log asked.log asked; location / {{ add_header x-user device; return 200 $said; }} }}\n"
        );
        let nginx = nginx(here.folder(), &servers, manager)?;
        let config = here.head("")
            + &format!(
                "[service.mdm]\naddresses = [\"{at}\"]\nmode = \"https\"\ncertificates = [\"lab\"]\npool = \"manager\"\n\
                 client_cert_headers = {{ \"NSClientCert\" = \"pem\" }}\n\
                 [service.mdm.client_cert]\nmode = \"optional\"\nca = \"devices.pem\"\n\
                 [[service.mdm.routes]]\nname = \"activesync\"\npath = \"/Microsoft-Server-ActiveSync\"\n\
                 client_cert_headers = {{}}\nauthorizer = \"device\"\npool = \"mail\"\n\
                 [pool.manager]\nbackends = [\"{manager}\"]\n[pool.mail]\nbackends = [\"{mail}\"]\n\
                 [pool.callout]\nbackends = [\"{callout}\"]\n\
                 [authorizer.device]\npool = \"callout\"\nhost = \"callout.asfilter.internal\"\n\
                 path = \"/services/ActiveSync/Authorize\"\nrequest_headers = [\"x-user\"]\n{authorizer}\n\
                 [authorizer.device.query]\n\
                 user = \"${{before(base64_decode(after(header('authorization'), 'Basic ')), ':')}}\"\n\
                 agent = \"${{header('user-agent')}}\"\nip = \"${{client.ip}}\"\n\
                 url = \"${{base64(request.url)}}\"\nresultType = \"json\"\nDeviceId = \"${{query('DeviceId')}}\"\n\
                 [authorizer.device.allow]\nbody_equals = \"Allow\"\nbody_first = 20\n"
            );
        let edge = here.start(&config)?;
        Ok(Self { here, edge, at, config, nginx })
    }

    fn curl(&self, path: &str, more: &[&str]) -> Result<Said> {
        let url = format!("https://{HOST}:{}{path}", self.at.port());
        curl(self.at, &[HOST], &self.here.ca(), &[more, &[url.as_str()]].concat())
    }

    fn asked(&self) -> Result<Vec<String>> {
        let log = std::fs::read_to_string(self.here.file("asked.log")).context("asked.log")?;
        Ok(log.lines().map(str::to_owned).collect())
    }

    fn count(&self, family: &str, label: (&str, &str)) -> Result<f64> {
        Ok(self.edge.metrics()?.sum(family, &[("authorizer", "device"), label]))
    }
}

const SYNC: &str = "/Microsoft-Server-ActiveSync?Cmd=Sync&DeviceId=";

fn site() -> Result<()> {
    let site = Site::new("deny = { drop = true }")?;
    let (chain, key) = (site.here.file("phone.pem"), site.here.file("phone.key"));
    let phone = ["--cert", &chain.to_string_lossy(), "--key", &key.to_string_lossy()];
    let said = site.curl("/manage", &phone)?;
    ensure!(said.has("manager cert=-----BEGIN CERTIFICATE-----"), "the manager is told of the certificate: {said:?}");
    let said = site.curl("/manage", &["-H", "NSClientCert: forged"])?;
    ensure!(said.has("manager cert= ip="), "a forged certificate is removed: {said:?}");
    let login = ["-u", "AL\\joe:secret", "-A", "Mail/1 (a&b)", "-H", "X-User: root"];
    let said = site.curl(&format!("{SYNC}good"), &[&phone[..], &login].concat())?;
    ensure!(said.status(200) && said.has("mail cert= user=device"), "mail is served, and told nothing: {said:?}");
    let asked = site.asked()?;
    let url = "aHR0cHM6Ly9tZG0uYmFpbGV5LnRlc3Q"; // https://mdm.bailey.test
    ensure!(
        asked.len() == 1
            && asked[0].starts_with(
                "/services/ActiveSync/Authorize?user=AL%5Cjoe&agent=Mail%2F1%20%28a%26b%29&ip=127%2E0%2E0%2E1&url="
            )
            && asked[0].contains(url)
            && asked[0].ends_with("&resultType=json&DeviceId=good"),
        "{asked:?}"
    );
    let said = site.curl(&format!("{SYNC}thief"), &[&login[..], &["--http1.1"]].concat())?;
    ensure!(said.code == Some(52) || said.code == Some(56), "a device that is not allowed gets no answer: {said:?}");
    let said = site.curl(&format!("{SYNC}thief"), &login)?;
    ensure!(said.code != Some(0) && !said.status(403), "nor over HTTP/2: {said:?}");
    ensure!(site.count("bailey_authorizer_requests_total", ("result", "denied"))? == 2.0);
    ensure!(site.count("bailey_authorizer_requests_total", ("result", "allowed"))? == 1.0);
    Ok(())
}

fn storm() -> Result<()> {
    let cache = "[authorizer.device.cache]\nkey = \"${query('DeviceId')}\"\nttl = \"10m\"\nnegative_ttl = \"10m\"\n";
    let site = Site::new(cache)?;
    let base = format!("https://{HOST}:{}", site.at.port());
    let connect = format!("--connect-to={}", site.at);
    // Two devices, one of which may not: every request is answered by one of two callouts.
    let urls = [format!("{base}{SYNC}good"), format!("{base}{SYNC}thief")];
    let words = ["-n", "4000", "-c", "50", "-m", "10", &connect];
    let said = run_for(60, "h2load", &[&words[..], &[urls[0].as_str(), urls[1].as_str()]].concat(), "")?;
    ensure!(said.has("2000 2xx, 0 3xx, 2000 4xx, 0 5xx"), "{said:?}");
    let asked = site.asked()?;
    ensure!(asked.len() == 2, "{} callouts for two devices", asked.len());
    ensure!(site.count("bailey_authorizer_cache_total", ("kind", "miss"))? == 2.0);
    ensure!(site.edge.metrics()?.sum("bailey_authorizer_cache_entries", &[]) == 2.0);
    Ok(())
}

fn down() -> Result<()> {
    let mut site = Site::new("timeout = \"5s\"")?;
    ensure!(site.curl(&format!("{SYNC}good"), &[])?.status(200));
    site.nginx.stop()?;
    let said = site.curl(&format!("{SYNC}good"), &[])?;
    ensure!(said.status(403) && said.has("this is not allowed"), "{said:?}");
    ensure!(site.count("bailey_authorizer_requests_total", ("result", "failed_closed"))? == 1.0);
    ensure!(site.count("bailey_authorizer_failures_total", ("reason", "broken"))? == 1.0);
    // Said to be open, the request goes on to the mail server, which is down too: that is another answer.
    site.edge.rewrite(&site.config.replace("timeout = \"5s\"", "timeout = \"5s\"\nfail = \"open\""))?;
    site.edge.done(&["reload"])?;
    let said = site.curl(&format!("{SYNC}good"), &[])?;
    ensure!(said.status(502), "{said:?}");
    ensure!(site.count("bailey_authorizer_requests_total", ("result", "failed_open"))? == 1.0);
    Ok(())
}

fn wrong() -> Result<()> {
    let site = Site::new("")?;
    site.edge.rewrite(&site.config.replace("${query('DeviceId')}", "${qery('DeviceId')}"))?;
    let refused = site.edge.cli(&["reload"])?;
    ensure!(refused.code == Some(1), "{refused:?}");
    let text = format!("{refused:?}");
    ensure!(text.contains("no function `qery`") && text.contains("did you mean `query`?"), "{text}");
    let said = site.curl(&format!("{SYNC}good"), &[])?;
    ensure!(said.has("mail cert= user=device"), "the last good config goes on: {said:?}");
    Ok(())
}
