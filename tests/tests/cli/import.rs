//! `bailey import netscaler`: what it makes passes the check, and serves as the appliance did.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use lb_tests::docs::root;
use lb_tests::edge::cli_command;
use lb_tests::here::{Here, free_address};
use lb_tests::need::binary;
use lb_tests::peers::nginx;
use lb_tests::pki::{Authority, Order};
use lb_tests::programs::curl;
use serde_json::Value;

/// The configuration of a site as it was published.
const SITE: &str = "lb-user/src/import/netscaler/mdm-edge.ns.conf";
const HOST: &str = "mdm.bailey.test";

/// What else configurations have: groups, monitors, persistence, responders, callouts, rewrites, versions of TLS.
const OTHER: &str = r#"#NS13.1 Build 4
set ns config -IPAddress 10.0.0.2 -netmask 255.255.255.0
enable ns feature LB CS SSL
add server svc[1-2] 10.0.0.[1-2]
add serviceGroup web.group HTTP -maxClient 50 -cip ENABLED X-Client -CMP YES
bind serviceGroup web.group svc1 8080 -weight 3
bind serviceGroup web.group svc2 8080
bind serviceGroup web.group -monitorName up
add lb monitor up HTTP-ECV -send "GET /ok" -recv "fine" -interval 10 -resptimeout 900 MSEC
add lb vserver shop SSL 192.0.2.7 443 -persistenceType COOKIEINSERT -timeout 30 -cookieName back
bind lb vserver shop web.group
add ssl certKey shop.cert -cert "/nsconfig/ssl/shop.pem" -key shop.key -expiryMonitor ENABLED
add ssl certKey ca -cert ca.pem
bind ssl vserver shop -certkeyName shop.cert
bind ssl vserver shop -certkeyName ca -CA -ocspCheck Mandatory
bind ssl vserver shop -cipherName SECURE
set ssl vserver shop -clientAuth ENABLED -clientCert Mandatory -ssl3 DISABLED -tls1 DISABLED -HSTS ENABLED -maxage 31536000
add ssl action cert -clientCert ENABLED -certHeader X-Cert
add ssl policy cert -rule "HTTP.REQ.URL.STARTSWITH(\"/admin\")" -action cert
bind ssl vserver shop -policyName cert -priority 10
add responder action www redirect "\"https://www.shop.test\" + HTTP.REQ.URL" -responseStatusCode 301
add responder policy www "HTTP.REQ.HOSTNAME.EQ(\"shop.test\")" www
bind lb vserver shop -policyName www -priority 10 -gotoPriorityExpression END -type REQUEST
add policy httpCallout ask -IPAddress 10.0.0.5 -port 81 -returnType TEXT -hostExpr "\"h\"" -urlStemExpr "\"/may\"" -parameters u(HTTP.REQ.URL.QUERY.VALUE("u")) -resultExpr "HTTP.RES.BODY(9)" -cacheForSecs 60
add responder policy ask "HTTP.REQ.URL.SET_TEXT_MODE(IGNORECASE).STARTSWITH(\"/In\") && SYS.HTTP_CALLOUT(ask).CONTAINS(\"ok\").NOT" DROP
bind lb vserver shop -policyName ask -priority 20
add rewrite action who insert_http_header X-Who CLIENT.IP.SRC
add rewrite policy who true who
bind lb vserver shop -policyName who -priority 30 -type REQUEST
add service mail1 10.0.0.8 SSL_BRIDGE 443
add lb vserver mail SSL_BRIDGE 192.0.2.8 443 -persistenceType SOURCEIP -timeout 60
bind lb vserver mail mail1
add service db1 10.0.0.9 TCP 5432
add lb vserver db TCP 192.0.2.9 5432 -lbMethod LEASTRESPONSETIME
bind lb vserver db db1
add cs vserver sites HTTP 192.0.2.10 80
add lb vserver "a site" HTTP 0
add service s1 10.0.0.10 HTTP 80
bind lb vserver "a site" s1
add cs action to_site -targetLBVserver "a site"
add cs policy posts -rule "HTTP.REQ.METHOD.EQ(POST) && (HTTP.REQ.HOSTNAME.EQ(\"a.test\") || HTTP.REQ.HEADER(\"x\").EXISTS)" -action to_site
add cs policy pages -url "/pages/*"
bind cs vserver sites -policyName posts -priority 100
bind cs vserver sites -policyName pages -targetLBVserver "a site" -priority 90
"#;

fn import(here: &Here, config: &str) -> Result<(String, Value)> {
    let (input, output) = (here.file("ns.conf"), here.file("imported.toml"));
    std::fs::write(&input, config)?;
    let run = |more: &[&str]| {
        let mut command = Command::new(binary("bailey")?);
        command.args(["import", "netscaler"]).arg(&input).arg("-o").arg(&output).args(more);
        cli_command(&mut command)
    };
    let outcome = run(&[])?;
    ensure!(outcome.code == Some(0) && outcome.stdout.contains("then: bailey check --config"), "{outcome:?}");
    let outcome = run(&[])?;
    ensure!(outcome.code == Some(1) && outcome.stderr.contains("--force"), "a file was replaced: {outcome:?}");
    let outcome = run(&["--force", "--json"])?;
    ensure!(outcome.code == Some(0), "{outcome:?}");
    Ok((std::fs::read_to_string(&output)?, serde_json::from_str(&outcome.stdout)?))
}

/// Files that are to lie beside the config of [`SITE`].
fn files(here: &Here) -> Result<Authority> {
    here.authority.issue(here.folder(), "PUBLICCERTIFICATE-NAME", &[HOST])?;
    let devices = Authority::new("Devices")?;
    devices.save(&here.file("CA_XenMobile_Device_CA.pem"))?;
    Authority::new("Root of devices")?.save(&here.file("CA_XenMobile_Root_CA.pem"))?;
    devices.order(here.folder(), "phone", &Order::client())?;
    Ok(devices)
}

pub(crate) fn passes() -> Result<()> {
    let here = Here::new()?;
    let (toml, said) = import(&here, &std::fs::read_to_string(root().join(SITE))?)?;
    let lines = said["notes"].as_array().context("notes")?.iter().filter_map(|note| note["line"].as_u64());
    let lines: Vec<u64> = lines.collect();
    for line in [1, 2, 3, 6, 8, 17, 22, 25, 27, 28] {
        ensure!(lines.contains(&line), "nothing is said of line {line}: {said}");
    }
    let outcome = here.check(&toml)?;
    ensure!(outcome.code == Some(1) && outcome.stdout.contains("PUBLICCERTIFICATE-NAME.pem"), "{outcome:?}");
    files(&here)?;
    let outcome = here.check(&toml)?;
    ensure!(outcome.code == Some(0), "{outcome:?}\n{toml}");

    let here = Here::new()?;
    here.authority.issue(here.folder(), "shop", &["shop.test", "www.shop.test"])?;
    let (toml, said) = import(&here, OTHER)?;
    let outcome = here.check(&toml)?;
    ensure!(outcome.code == Some(0), "{outcome:?}\n{said}\n{toml}");
    Ok(())
}

pub(crate) fn serves() -> Result<()> {
    let here = Here::new()?;
    files(&here)?;
    let (toml, _) = import(&here, &std::fs::read_to_string(root().join(SITE))?)?;
    let [at, plain, manager, mail, callout] = [0; 5].map(|_| free_address());
    let (at, plain, manager, mail, callout): (SocketAddr, SocketAddr, SocketAddr, SocketAddr, SocketAddr) =
        (at?, plain?, manager?, mail?, callout?);
    let folder = here.folder().display();
    let servers = format!(
        "server {{ listen {manager}; location / {{ return 200 \"manager cert=$http_nsclientcert\\n\"; }} }}\n\
         server {{ listen {mail} ssl; ssl_certificate {folder}/edge.pem; ssl_certificate_key {folder}/edge.key; \
           location / {{ return 200 \"mail cert=$http_nsclientcert\\n\"; }} }}\n\
         map $arg_DeviceId $said {{ default Allow; thief Deny; }}\n\
         server {{ listen {callout}; location /services/ActiveSync/Authorize {{ return 200 $said; }} }}\n"
    );
    let _nginx = nginx(here.folder(), &servers, manager)?;
    // Where placeholders stood, real addresses; whom the mail server's certificate comes from; who is asked about devices.
    let mut config = toml.replace("[edge]\ndatapath = \"sockets\"\n", &here.head(""));
    for (stand_in, real) in [
        ("192.0.2.1:443", at),
        ("192.0.2.1:80", plain),
        ("192.0.2.3:80", manager),
        ("192.0.2.2:443", mail),
        ("192.0.2.4:9080", callout),
    ] {
        ensure!(config.contains(stand_in), "no {stand_in} in\n{config}");
        config = config.replace(stand_in, &real.to_string());
    }
    config = config.replace("verify = true", "ca = \"ca.pem\"");
    let to_mail = "pool = \"1203_lb_vs_mdm_exchange\"\n";
    config = config.replace(to_mail, &format!("{to_mail}authorizer = \"httpCalloutXNC\"\n"));
    let edge = here.start(&config)?;
    let (chain, key) = (here.file("phone.pem"), here.file("phone.key"));
    let phone = ["--cert", &chain.to_string_lossy(), "--key", &key.to_string_lossy()];
    let get = |path: &str, more: &[&str]| {
        let url = format!("https://{HOST}:{}{path}", at.port());
        curl(at, &[HOST], &here.ca(), &[more, &[url.as_str()]].concat())
    };
    let said = get("/enroll", &phone)?;
    ensure!(said.has("manager cert=-----BEGIN CERTIFICATE-----"), "{said:?}");
    let said = get("/enroll", &["-H", "NSClientCert: forged"])?;
    ensure!(said.has("manager cert=\n"), "{said:?}");
    let said = get("/Microsoft-Server-ActiveSync?DeviceId=good", &phone)?;
    ensure!(said.has("mail cert=\n"), "{said:?}");
    let said = get("/Microsoft-Server-ActiveSync?DeviceId=thief", &[])?;
    ensure!(said.status(403), "{said:?}");
    let said = curl(plain, &[HOST], &here.ca(), &[&format!("http://{HOST}:{}/", plain.port())])?;
    ensure!(said.has("manager cert=\n"), "{said:?}");
    drop(edge);
    Ok(())
}
