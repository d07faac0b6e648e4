//! Certificates of clients as conditions: the rule of an appliance that inserts the certificate everywhere but for one path.

use anyhow::{Result, ensure};
use lb_tests::harness::{Test, with};
use lb_tests::here::Here;
use lb_tests::pki::{Authority, Order};

use crate::site::Site;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        with("a_certificate_is_handed_on_except_for_activesync", &["nginx", "curl"], except),
        with("who_has_no_certificate_is_sent_away", &["nginx", "curl"], required_for_some),
    ]
}

fn clients(here: &Here) -> Result<()> {
    let clients = Authority::new("Devices")?;
    clients.save(&here.file("devices.pem"))?;
    clients.order(here.folder(), "device", &Order::client())?;
    Ok(())
}

const ASKS: &str = "client_cert = { mode = \"optional\", ca = \"devices.pem\" }\n";

fn except() -> Result<()> {
    let routes = "[[service.web.routes]]\nclient_cert = { verified = true }\n\
                  not = { any = [{ path = \"/Microsoft-Server-ActiveSync\" }, { path = \"/v1\" }] }\n\
                  client_cert_headers = { x-cert = \"subject\" }\npool = \"one\"\n\
                  [[service.web.routes]]\npool = \"two\"\n";
    let site = Site::new(ASKS, "pool = \"one\"", routes, clients)?;
    let [cert, key] = [site.here.file("device.pem"), site.here.file("device.key")];
    let (cert, key) = (cert.to_string_lossy(), key.to_string_lossy());
    let shown = ["--cert", &*cert, "--key", &*key];
    for (path, arguments, asked, told) in [
        ("/owa", &shown[..], "one GET /owa host=", "cert=CN=device"),
        ("/Microsoft-Server-ActiveSync", &shown[..], "two GET /Microsoft-Server-ActiveSync host=", "cert= "),
        (
            "/Microsoft-Server-ActiveSync/x?Cmd=Sync",
            &shown[..],
            "two GET /Microsoft-Server-ActiveSync/x?Cmd=Sync host=",
            "cert= ",
        ),
        ("/owa", &["-H", "X-Cert: CN=forged"][..], "two GET /owa host=", "cert= "),
    ] {
        for version in ["--http1.1", "--http2"] {
            let said = site.get(path, &[arguments, &[version]].concat())?;
            ensure!(said.has(asked) && said.has(told), "{path}: {said:?}");
        }
    }
    Ok(())
}

fn required_for_some() -> Result<()> {
    let routes = "[[service.web.routes]]\npath = \"/admin\"\nclient_cert = { subject = { regex = '^CN=dev' } }\npool = \"one\"\n\
                  [[service.web.routes]]\npath = \"/admin\"\nrespond = { status = 403, body = \"show a certificate\" }\n\
                  [[service.web.routes]]\nhosts = [\"other.bailey.test\"]\nredirect = { host = \"www.bailey.test\", code = 301 }\n";
    let site = Site::new(&format!("{ASKS}pool = \"two\"\n"), "pool = \"one\"", routes, clients)?;
    let [cert, key] = [site.here.file("device.pem"), site.here.file("device.key")];
    let (cert, key) = (cert.to_string_lossy(), key.to_string_lossy());
    let said = site.get("/admin/x", &["--cert", &*cert, "--key", &*key])?;
    ensure!(said.status(200) && said.has("one GET /admin/x"), "{said:?}");
    let said = site.get("/admin/x", &[])?;
    ensure!(said.status(403) && said.has("show a certificate"), "{said:?}");
    let other = format!("https://other.bailey.test:{}/a?b", site.web.port());
    let said = site.get("/", &[&other])?;
    ensure!(
        said.status(301) && said.has(&format!("ocation: https://www.bailey.test:{}/a?b", site.web.port())),
        "{said:?}"
    );
    Ok(())
}
