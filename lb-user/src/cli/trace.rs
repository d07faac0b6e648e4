//! `bailey trace`: the way of a client's packets and request through the edge as it is now, and, live, what of them is
//! dropped.

use super::args_tools::{Target, TraceArgs};
use super::say::{Tone, paint};
use super::verbs::Out;
use super::{say, table_forward};
use crate::admin::api::*;
use crate::admin::client::{Client, ClientError};
use crate::datapath::Protocol;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::timeout;

/// Where nobody says how long.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// Ask for it, show it, and stay for what is live. The exit code is 1 when it does not arrive.
pub(super) async fn trace(args: TraceArgs, client: &Client, out: &Out) -> Result<ExitCode, ClientError> {
    let (to, protocol, http) = match &args.target {
        Target::Service(address, protocol) => (*address, *protocol, None),
        Target::Url(url) => {
            let services: Vec<ServiceRow> = client.get("/v1/services").await?;
            let to = destination(url, args.to, &services)?;
            let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let named = host.parse::<IpAddr>().is_err().then(|| host.clone());
            let http = TraceHttp {
                method: args.method.clone(),
                sni: args.sni.clone().or(named),
                host,
                path: url.path().to_owned(),
                query: url.query().map(str::to_owned),
                headers: args.headers.clone(),
            };
            (to, Protocol::Tcp, Some(http))
        }
    };
    let view: TraceView = client.post("/v1/trace", &TraceRequest { client: args.client, to, protocol, http }).await?;
    match args.live {
        true if out.json => drop(say::print_json(&view, true)),
        _ => out.show(&view, words),
    }
    if args.live {
        live(&args, view.service.clone(), client, out).await?;
    }
    Ok(if view.arrives { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where a URL leads: what was said, its own address, the one service at its port, or what its name is looked up as.
fn destination(url: &hyper::Uri, said: Option<SocketAddr>, services: &[ServiceRow]) -> Result<SocketAddr, ClientError> {
    let https = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    if let Some(said) = said {
        return Ok(SocketAddr::new(said.ip(), if said.port() == 0 { port } else { said.port() }));
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    let at_port = services.iter().flat_map(|service| &service.addresses);
    let mut at_port: Vec<SocketAddr> =
        at_port.filter_map(|text| text.parse::<SocketAddr>().ok()).filter(|address| address.port() == port).collect();
    at_port.sort();
    at_port.dedup();
    if let [one] = at_port[..] {
        return Ok(one);
    }
    let looked_up: Vec<SocketAddr> = (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    if let Some(known) = looked_up.iter().find(|address| at_port.contains(address)).or(looked_up.first()) {
        return Ok(*known);
    }
    Err(ClientError::Refused(Failure {
        error: format!("{} services have port {port}, and {host} is no name that is looked up here", at_port.len()),
        hint: Some("say which address the client connects to: --to IP".into()),
        ..Failure::default()
    }))
}

fn words(view: &TraceView) -> String {
    let width = view.steps.iter().map(|step| step.stage.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (place, step) in view.steps.iter().enumerate() {
        let last = place + 1 == view.steps.len();
        let tone = if last && !view.arrives { Tone::Bad } else { Tone::Plain };
        out += &format!("{:width$}  {}\n", step.stage, paint(tone, &step.says));
    }
    out + &match view.arrives {
        true => paint(Tone::Good, "it arrives") + "\n",
        false => paint(Tone::Bad, "it ends there") + "\n",
    }
}

/// Packets of this client that are dropped, as they are.
async fn live(args: &TraceArgs, service: Option<String>, client: &Client, out: &Out) -> Result<(), ClientError> {
    let request = WatchRequest { service, verdict: None };
    let wanted =
        |seen: &SeenView| seen.source.ip() == args.client.ip() && [0, seen.source.port()].contains(&args.client.port());
    let watching = client.watch(&request, |line| {
        let ours = match &line {
            WatchLine::Seen(seen) => wanted(seen),
            WatchLine::Lost { .. } => true,
        };
        let read = match (ours, out.json) {
            (false, _) => true,
            (true, true) => say::print_json(&line, true),
            (true, false) => say::print(&(table_forward::seen(&line) + "\n")),
        };
        if read { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    // Over when its time is, or when the daemon ends.
    timeout(args.period.unwrap_or(FOREVER), watching).await.map_or(Ok(()), |ended| ended.map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(addresses: &[&str]) -> ServiceRow {
        ServiceRow {
            name: "web".into(),
            mode: "http".into(),
            addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
            protocols: vec![Protocol::Tcp],
            packets: 0,
            packets_dropped: 0,
            connections: 0,
            connections_active: 0,
            requests: 0,
        }
    }

    #[test]
    fn a_url_leads_to_the_one_service_at_its_port() {
        let services = [service(&["192.0.2.1:80", "192.0.2.1:443"]), service(&["[2001:db8::1]:80"])];
        let to = |url: &str, said: Option<&str>| {
            let said = said.map(|said| said.parse().unwrap());
            destination(&url.parse().unwrap(), said, &services).map(|address| address.to_string()).ok()
        };
        assert_eq!(to("https://nowhere.invalid/", None).unwrap(), "192.0.2.1:443");
        assert_eq!(to("http://192.0.2.9:81/", None).unwrap(), "192.0.2.9:81");
        assert_eq!(to("http://[2001:db8::9]/", None).unwrap(), "[2001:db8::9]:80");
        assert_eq!(to("https://nowhere.invalid/", Some("192.0.2.7:0")).unwrap(), "192.0.2.7:443");
        assert_eq!(to("http://nowhere.invalid/", None), None, "two services have the port");
    }
}
