//! TLS in the config: what is read, and what is said of what cannot be.

use super::*;
use crate::cert::testing::{Authority, der};
use crate::cert::{blocks::to_pem, pkcs12};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tls_worker::api::{ClientCertField, ClientCertMode, ExpiredCrl, OcspMode};

pub(super) const TLS: &str = r#"
[edge]
datapath = "sockets"
state = "state"

[tls]
ticket_keys = "tickets.keys"
ticket_lifetime = "2h"
watch = "0s"
max_handshakes = 100
max_handshakes_per_source = 10
handshakes_per_turn = 2
max_client_hello = "8KiB"

[tls_policy.old]
base = "intermediate"
max_tls = "1.2"
suites = ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]
groups = ["SECP384R1"]

[certificate.www]
chain = "www.pem"
key = "www.key"
stapling = true
ocsp_responder = "http://ocsp.test/"

[certificate.archive]
file = "archive.p12"
password_file = "archive.pass"

[service.web]
addresses = ["127.0.0.1:443"]
mode = "https"
certificates = ["www", "archive"]
unknown_sni = "refuse"
hsts = true
pool = "app"
client_cert_headers = { "NSClientCert" = "pem", "x-verify" = "verify" }

[service.web.client_cert]
mode = "optional"
ca = ["ca.pem"]
depth = 2
crls = "ca.crl"
expired_crl = "allow"
ocsp = "required"
ocsp_responder = "http://ocsp.test/clients"

[[service.web.sni]]
names = ["old.test", "*.old.test"]
certificates = ["archive"]
tls_policy = "old"
hsts = { max_age = "730d", include_subdomains = true, preload = true }
client_cert = { mode = "off" }

[[service.web.routes]]
hosts = ["old.test"]
client_cert_headers = {}
pool = "app"

[service.mail]
addresses = ["127.0.0.1:993"]
mode = "tls"
certificates = ["www"]
tls_policy = "modern"
alpn = ["imap", "pop3"]
pool = "mail"

[[service.mail.routes]]
alpn = ["pop3"]
pool = "mail"

[service.bridge]
addresses = ["127.0.0.1:8443"]
mode = "passthrough"

[[service.bridge.routes]]
hosts = ["*.bridge.test"]
alpn = ["h2"]
pool = "mail"

[pool.app]
backends = ["127.0.0.1:1"]

[pool.app.tls]
ca = "ca.der"
server_name = "app.test"
sni = "other.test"
pins = ["sha256/BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="]
certificate = "www"
min_tls = "1.3"
alpn = ["h2"]

[pool.mail]
backends = ["127.0.0.1:2"]
proxy_protocol = "v2"
"#;

/// The files that [`TLS`] names. The root signs the certificates itself, and stands in their chains.
pub(super) struct Pki {
    pub(super) files: Files,
    pub(super) root: Authority,
}

impl Pki {
    pub(super) fn new() -> Self {
        let pki = Pki { files: Files::new(), root: Authority::root("Root") };
        pki.issue("www", &["www.test"]);
        let (leaf, key) = pki.root.leaf(&["old.test", "*.old.test"]);
        let chain = [der(&leaf), der(&pki.root.certificate)];
        pki.secret("archive.p12", &pkcs12::write(&key.serialize_der(), &chain, "old", "geheim").unwrap());
        pki.secret("archive.pass", b"geheim\r\n");
        pki.secret("tickets.keys", (STANDARD.encode([1; 48]) + "\n" + &STANDARD.encode([2; 48])).as_bytes());
        pki.secret("ca.pem", to_pem("CERTIFICATE", &chain[1]).as_bytes());
        pki.secret("ca.der", &chain[1]);
        pki.crl(2040);
        pki
    }

    pub(super) fn secret(&self, name: &str, bytes: &[u8]) {
        let path = self.files.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path, mode).unwrap();
    }

    /// NAME.pem and NAME.key.
    pub(super) fn issue(&self, name: &str, names: &[&str]) {
        let (leaf, key) = self.root.leaf(names);
        self.secret(&format!("{name}.pem"), self.chain(&[&der(&leaf), &der(&self.root.certificate)]).as_bytes());
        self.secret(&format!("{name}.key"), to_pem("PRIVATE KEY", &key.serialize_der()).as_bytes());
    }

    fn chain(&self, list: &[&[u8]]) -> String {
        list.iter().map(|der| to_pem("CERTIFICATE", der).to_string()).collect()
    }

    pub(super) fn crl(&self, until: i32) {
        let params = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(until, 1, 1),
            crl_number: rcgen::SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        self.secret("ca.crl", params.signed_by(&self.root.issuer()).unwrap().pem().unwrap().as_bytes());
    }

    pub(super) fn loaded(&self, text: &str) -> Loaded {
        self.files.parse(text).unwrap_or_else(|e| panic!("{e}"))
    }
}

#[test]
fn every_key_of_tls_has_its_place() {
    let pki = Pki::new();
    let Loaded { config, warnings } = pki.loaded(TLS);
    assert_eq!(warnings.views(), []);
    assert_eq!(config.edge.state.as_deref(), Some(&*pki.files.0.path().join("state")));
    let tls = &config.tls;
    assert_eq!(tls.ticket_keys.as_ref().unwrap().iter().map(|key| key.expose()[0]).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((tls.ticket_lifetime, tls.watch), (Duration::from_secs(7200), None));
    let limits = tls.handshakes;
    assert_eq!((limits.at_once, limits.per_source, limits.per_turn, limits.max_client_hello), (100, 10, 2, 8192));
    let www = config.certificate("www").unwrap();
    assert!(www.stapling && www.issuer.is_some() && www.certificate.chain.len() == 1);
    assert_eq!((www.responder.as_deref(), www.facts.issuer.as_str()), (Some("http://ocsp.test/"), "CN=Root"));
    assert_eq!(config.certificate("archive").unwrap().certificate.names, ["old.test", "*.old.test"]);

    let web = config.services[0].tls.as_ref().unwrap();
    assert!(web.strict_sni && web.alpn == ["h2", "http/1.1"]);
    let [own, old] = &web.policies[..] else { panic!("{web:?}") };
    assert_eq!((own.hsts.as_deref(), own.certificates.as_slice()), (Some("max-age=31536000"), &[0, 1][..]));
    assert_eq!(own.protocol.groups[0], "X25519MLKEM768");
    let rules = own.client_cert.as_ref().unwrap();
    assert_eq!((rules.mode, rules.depth, rules.ocsp), (ClientCertMode::Optional, 2, OcspMode::Required));
    assert_eq!((rules.roots.len(), rules.crls.len(), rules.expired_crl), (1, 1, ExpiredCrl::Allow));
    assert_eq!((&old.client_cert, old.certificates.as_slice()), (&None, &[1][..]));
    assert_eq!(old.hsts.as_deref(), Some("max-age=63072000; includeSubDomains; preload"));
    assert_eq!(
        (old.protocol.groups.as_slice(), old.protocol.max_version),
        (&["secp384r1".into()][..], TlsVersion::V12)
    );
    let told = |route: usize| &config.services[0].routes[route].client_cert;
    assert_eq!((told(0).len(), told(1)[0].name.as_str(), told(1)[0].value), (0, "nsclientcert", ClientCertField::Pem));

    let (mail, bridge) = (&config.services[1], &config.services[2]);
    assert_eq!((mail.mode, bridge.mode, &bridge.tls), (Mode::Tls, Mode::Passthrough, &None));
    assert_eq!(mail.tls.as_ref().unwrap().policies[0].protocol.min_version, TlsVersion::V13);
    assert_eq!(
        (mail.routes[0].alpn.as_slice(), bridge.routes[0].alpn.as_slice()),
        (&["pop3".into()][..], &["h2".into()][..])
    );
    let app = config.pools[0].tls.as_ref().unwrap();
    assert_eq!(
        (app.sni.as_deref(), app.pins.as_slice(), app.alpn.as_slice()),
        (Some("other.test"), &[[7; 32]][..], &["h2".to_string()][..])
    );
    assert_eq!((app.certificate.as_ref().unwrap().name.as_str(), app.protocol.min_version), ("www", TlsVersion::V13));
    assert!(config.pools[1].proxy_version.is_some() && config.pools[0].proxy_version.is_none());
    let mut files: Vec<_> = config.files.iter().map(|file| file.path.file_name().unwrap().to_str().unwrap()).collect();
    files.sort_unstable();
    assert_eq!(
        files,
        ["archive.p12", "archive.pass", "ca.crl", "ca.der", "ca.pem", "tickets.keys", "www.key", "www.pem"]
    );
    assert!(config.files.iter().all(|file| !file.has_changed()));
}

#[test]
fn each_mistake_of_tls_is_told() {
    let pki = Pki::new();
    pki.secret("short.keys", STANDARD.encode([1; 16]).as_bytes());
    pki.secret("wrong.pass", b"falsch\n");
    pki.secret("words.txt", b"not a certificate\n");
    let weak = include_str!("weak-rsa.pem");
    pki.secret("weak.pem", weak.as_bytes());
    // (text, what stands instead, part of message, part of help)
    let table = [
        ("\"tickets.keys\"", "\"short.keys\"", "\"short.keys\": line 1 is a key of 16 bytes", "openssl rand"),
        ("\"2h\"", "\"169h\"", "out of bounds", "60s to 604800s"),
        ("watch = \"0s\"", "watch = \"10ms\"", "too often", "\"1s\""),
        ("\"8KiB\"", "\"8KB\"", "no size", "\"16KiB\""),
        ("\"8KiB\"", "\"1KiB\"", "out of bounds: 1024 bytes", "2048 to 65536"),
        ("base = \"intermediate\"", "base = \"old\"", "none of", "\"custom\""),
        ("base = \"intermediate\"\n", "", "lacks the key `base`", "\"modern\""),
        ("[tls_policy.old]", "[tls_policy.modern]", "is built in", "another name"),
        ("[tls_policy.old]", "[tls_policy.odd]", "no tls_policy \"old\"", "did you mean \"odd\""),
        ("max_tls = \"1.2\"", "max_tls = \"1.2\"\nmin_tls = \"1.3\"", "no version of TLS is left", "`max_tls`"),
        ("max_tls = \"1.2\"", "max_tls = \"1.3\"", "has no suite of TLS 1.3", "TLS_AES_128"),
        ("_256_GCM_SHA384\"]", "_256_GCM_SHA385\"]", "no cipher suite", "did you mean"),
        ("[\"SECP384R1\"]", "[\"x448\"]", "no group \"x448\"", "secp256r1"),
        ("[\"SECP384R1\"]", "[]", "no group is left", "leave `groups` out"),
        ("_ECDSA_WITH_AES_256", "_RSA_WITH_AES_256", "no suite of TLS 1.2", "RSA key"),
        ("ocsp_responder = \"http://ocsp.test/\"\n", "", "names no OCSP responder", "ocsp_responder ="),
        ("\"http://ocsp.test/\"", "\"https://ocsp.test/\"", "asked over TLS", "http:"),
        ("file = \"archive.p12\"", "file = \"archive.p12\"\nkey = \"www.key\"", "has `file` and `key`", "PKCS#12"),
        ("\"archive.pass\"", "\"wrong.pass\"", "password is wrong", "first line"),
        ("password_file = \"archive.pass\"\n", "", "none is given", "first line"),
        ("\"archive.p12\"", "\"words.txt\"", "no PKCS#12 archive", "openssl pkcs12"),
        ("chain = \"www.pem\"", "chain = \"words.txt\"", "neither PEM nor DER", "BEGIN CERTIFICATE"),
        ("key = \"www.key\"\nst", "password_file = \"www.key\"\nst", "`password_file` belongs to `file`", "remove it"),
        (
            "chain = \"www.pem\"\nkey = \"www.key\"",
            "chain = \"weak.pem\"\nkey = \"weak.pem\"",
            "weak: RSA of 1024",
            "2048",
        ),
        ("unknown_sni = \"refuse\"", "unknown_sni = \"no\"", "none of", "\"default\""),
        ("hsts = true", "hsts = 5", "must be true, false or a table", "max_age"),
        ("include_subdomains = true, ", "", "preload no such host", "include_subdomains"),
        ("\"NSClientCert\" = \"pem\"", "\"Host\" = \"pem\"", "belongs to the message", "x-client-cert"),
        ("\"NSClientCert\" = \"pem\"", "\"NSClientCert\" = \"der\"", "no part of a certificate", "rfc9440"),
        ("\"x-verify\" =", "\"nsclientcert\" =", "twice", "once"),
        ("mode = \"optional\"", "mode = \"maybe\"", "none of", "\"required\""),
        ("ca = [\"ca.pem\"]\n", "", "lacks the key `ca`", "clients-ca.pem"),
        ("ca = [\"ca.pem\"]", "ca = \"www.key\"", "\"www.key\": it holds no certificate, but a private key", "BEGIN"),
        ("depth = 2", "depth = 9", "out of bounds", "0 to 8"),
        ("crls = \"ca.crl\"", "crls = \"ca.pem\"", "no revocation list, but a certificate", "X509 CRL"),
        ("ocsp = \"required\"", "ocsp = \"off\"", "no responder is asked", "remove `ocsp_responder`"),
        ("{ mode = \"off\" }", "{ mode = \"off\", depth = 1 }", "`depth` says nothing", "remove it"),
        ("\"*.old.test\"]\nc", "\"old.test\"]\nc", "stands in two places", "one set"),
        ("names = [\"old.test\", \"*.old.test\"]\n", "", "lacks the key `names`", "names ="),
        ("certificates = [\"archive\"]", "certificates = []", "has no certificate", "name one"),
        ("certificates = [\"www\", \"archive\"]", "certificates = [\"www\", \"www\"]", "twice", "once"),
        ("certificates = [\"www\"]\n", "", "has no certificate", "[certificate.NAME]"),
        ("alpn = [\"imap\", \"pop3\"]", "alpn = [\"imap\", \"imap\"]", "twice", "once"),
        ("alpn = [\"imap\", \"pop3\"]", "alpn = [\"imap\"]", "never agreed on", "service's `alpn`"),
        (
            "alpn = [\"imap\", \"pop3\"]",
            "alpn = [\"imap\", \"pop3\"]\nhttp2 = true",
            "`http2` belongs to mode \"https\"",
            "bytes",
        ),
        ("alpn = [\"pop3\"]", "path = \"/\"\nalpn = [\"pop3\"]", "`path` belongs to modes \"http\"", "bytes"),
        (
            "mode = \"passthrough\"",
            "mode = \"passthrough\"\ncertificates = [\"www\"]",
            "`certificates` belongs to",
            "backend ends",
        ),
        ("unknown_sni", "alpn = [\"x\"]\nunknown_sni", "`alpn` belongs to mode \"tls\"", "remove `alpn`"),
        (
            "tls_policy = \"modern\"",
            "tls_policy = \"modern\"\nmin_tls = \"1.2\"",
            "no suite of TLS 1.2",
            "leave `min_tls` out",
        ),
        ("tls_policy = \"old\"", "tls_policy = \"old\"\nmin_tls = \"1.3\"", "above what the policy allows", "another"),
        ("server_name = \"app.test\"\n", "", "`server_name` that is not there", "server_name ="),
        ("server_name = \"app.test\"", "server_name = \"192.0.2.1\"", "is an address", "leave it out"),
        ("\"sha256/BwcH", "\"sha256/Bwc", "no pin", "openssl"),
        ("certificate = \"www\"", "certificate = \"ww\"", "no certificate \"ww\"", "did you mean"),
        ("min_tls = \"1.3\"\nalpn", "min_tls = \"1.3\"\nmax_tls = \"1.2\"\nalpn", "no version of TLS", "`max_tls`"),
        ("alpn = [\"h2\"]\n\n[pool.mail]", "alpn = [\"imap\"]\n\n[pool.mail]", "cannot be sent by \"imap\"", "\"h2\""),
        (
            "backends = [\"127.0.0.1:1\"]",
            "backends = []\nproxy_protocol = \"v2\"",
            "does not go with service \"web\"",
            "headers",
        ),
        ("proxy_protocol = \"v2\"", "proxy_protocol = \"3\"", "none of", "\"v2\""),
    ];
    for (good, bad, message, help) in table {
        assert_eq!(TLS.matches(good).count(), 1, "the test names one place: {good}");
        let views = pki.files.views(&TLS.replace(good, bad));
        let told = views.iter().any(|view| {
            (view.message.contains(message) && view.help.as_deref().unwrap_or_default().contains(help)) && view.line > 1
        });
        assert!(told, "{bad}: {views:#?}");
    }
}

#[test]
fn what_of_tls_somebody_should_look_at_is_warned_of() {
    let pki = Pki::new();
    let warned = |good: &str, bad: &str| {
        assert!(TLS.contains(good), "{good}");
        let views = pki.loaded(&TLS.replace(good, bad)).warnings.views();
        views.into_iter().map(|view| view.message).collect::<Vec<_>>().join("\n")
    };
    assert!(warned("mode = \"optional\"", "mode = \"optional-any\"").contains("any client certificate is taken"));
    assert!(warned("[\"old.test\", \"*", "[\"new.test\", \"*").contains("is for \"new.test\""));
    assert!(warned("server_name", "verify = false\nserver_name").contains("their keys' pins alone hold"));
    assert!(
        warned("[pool.app]", "[tls_policy.more]\nbase = \"modern\"\n[pool.app]").contains("\"more\" is used by no")
    );
    let off = TLS.replace("mode = \"optional\"", "mode = \"off\"");
    let keys = ["ca = ", "depth", "crls", "expired_crl", "ocsp = ", "ocsp_responder = \"http://ocsp.test/cl"];
    let off: String = off
        .lines()
        .filter(|l| !keys.iter().any(|k| l.starts_with(k)) || l.contains("ca.der"))
        .map(|l| format!("{l}\n"))
        .collect();
    let views = pki.loaded(&off).warnings.views();
    assert!(views.iter().any(|view| view.message.contains("asks no client for a certificate")), "{views:#?}");
    pki.crl(2021);
    assert!(warned("depth = 2", "depth = 3").contains("CN=Root was due for renewal on 2021-01-01T00:00:00Z"));
}

#[test]
fn chains_are_put_in_order_and_their_faults_named() {
    let pki = Pki::new();
    let middle = pki.root.under("Middle");
    let (leaf, key) = middle.leaf_with(&["www.test"], |params| params.not_after = rcgen::date_time_ymd(2030, 1, 1));
    let stranger = Authority::root("Stranger");
    let all = [der(&pki.root.certificate), der(&leaf), der(&stranger.certificate), der(&middle.certificate)];
    pki.secret("www.key", &key.serialize_der());
    let look = |list: &[&[u8]]| {
        pki.secret("www.pem", pki.chain(list).as_bytes());
        let loaded = pki.loaded(TLS);
        let views = loaded.warnings.views().into_iter().map(|view| view.message).collect::<Vec<_>>().join("\n");
        (loaded.config.certificates[0].clone(), views)
    };
    let (www, said) = look(&[&all[0], &all[1], &all[2], &all[3]]);
    assert_eq!(www.certificate.chain.iter().map(|der| &der.0).collect::<Vec<_>>(), [&all[1], &all[3]]);
    assert_eq!(www.issuer.as_ref().map(|der| &der.0), Some(&all[3]));
    assert!(said.contains("belongs to nothing in it: CN=Stranger"), "{said}");
    let text = TLS.replace("stapling = true\n", "");
    pki.secret("www.pem", pki.chain(&[&all[1], &all[0]]).as_bytes());
    let views = pki.loaded(&text).warnings.views();
    let gap = views.iter().find(|view| view.message.contains("lacks the certificate of CN=Middle")).unwrap();
    assert!(gap.message.contains("issued CN=www.test") && gap.help.as_deref().unwrap().contains("append"));
}
