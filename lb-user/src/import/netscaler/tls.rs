//! TLS of vservers: certificates, clients' certificates, versions, HSTS.

use super::condition::{Condition, all, not};
use super::policies::{Action, Rule};
use super::services::Route;
use super::site::{Bind, Object};
use super::{Import, base, by_priority, file_name};
use crate::import::toml::{Section, list};

/// Options of `set ssl vserver` that mean nothing here.
const MEANINGLESS: [&str; 12] = [
    "sessreuse",
    "sesstimeout",
    "ersa",
    "dh",
    "dhcount",
    "sslredirect",
    "snienable",
    "clientauth",
    "clientcert",
    "tls13",
    "ssl2",
    "sendclosenotify",
];

impl<'s> Import<'s> {
    /// Names of the certificates that a vserver shows, each written once.
    pub(super) fn certificates(&mut self, vserver: &'s Object) -> Vec<String> {
        let Some(tls) = self.site.get("ssl vserver", &vserver.name) else { return Vec::new() };
        tls.used.set(true);
        let bound = tls.binds.iter().filter(|bind| !bind.has("ca"));
        let bound: Vec<(&'s str, &'s Bind)> =
            bound.filter_map(|bind| Some((bind.value("certkeyname")?, bind))).collect();
        let mut names = Vec::new();
        for (theirs, bind) in bound {
            bind.has("snicert");
            let written = self.names.values().any(|name| name == &format!("certificate {theirs}"));
            let name = self.name("certificate", theirs, bind.line);
            if !written {
                self.names.insert(("certificate written", name.clone()), format!("certificate {theirs}"));
                self.certificate(theirs, &name, bind.line);
            }
            names.push(name);
        }
        names
    }

    fn certificate(&mut self, theirs: &str, name: &str, line: usize) {
        let mut section = Section::table(&["certificate", name]);
        section.comment(format!("ssl certKey {theirs}"));
        let made = self.site.added("ssl certKey", theirs);
        if made.is_none() {
            self.notes.differs(
                line,
                format!("certificate {theirs} is made nowhere: its files are {name}.pem and {name}.key"),
            );
        }
        let of = |option: &str| made.and_then(|made| made.value(option)).map(|file| base(file).to_owned());
        let pkcs12 = made.is_some_and(|made| made.is("inform", "PFX"));
        let chain = of("cert").unwrap_or_else(|| format!("{}.pem", file_name(theirs)));
        if pkcs12 {
            section.text("file", &chain);
            section.text("password_file", &format!("{name}.password"));
            self.files.push((format!("{name}.password"), format!("the password of {chain}, in its first line")));
        } else {
            section.text("chain", &chain);
            let file = of("key").unwrap_or_else(|| format!("{}.key", file_name(theirs)));
            section.text("key", &file);
            self.files.push((file, format!("the private key of {theirs}, without a passphrase")));
        }
        self.files.push((chain, format!("the certificate {theirs} with its intermediates")));
        if let Some(made) = made {
            if made.value("passcrypt").or_else(|| made.value("password")).is_some() && !pkcs12 {
                self.notes
                    .differs(made.line, format!("the key of {theirs} has a passphrase: take it off (openssl pkey)"));
            }
            made.pass_over(&["expirymonitor", "notificationperiod", "bundle", "encrypted", "encryptmethod", "kek"]);
        }
        self.sections.push(section);
    }

    /// Keys of a service, and sections that belong to it.
    pub(super) fn service_tls(&mut self, vserver: &'s Object, ours: &str, section: &mut Section) -> Vec<Section> {
        let Some(tls) = self.site.get("ssl vserver", &vserver.name) else { return Vec::new() };
        for version in ["ssl3", "tls1", "tls11"] {
            if let Some(option) = tls.option(version).filter(|_| tls.is(version, "ENABLED")) {
                self.notes.differs(option.line, format!("-{version}: nothing below TLS 1.2 is spoken here"));
            }
        }
        if tls.is("tls12", "DISABLED") {
            section.text("min_tls", "1.3");
        }
        if tls.is("hsts", "ENABLED") && section_is_https(vserver) {
            let seconds = tls.value("maxage").filter(|age| *age != "0").unwrap_or("31536000");
            let subdomains = tls.is("includesubdomains", "YES");
            let preload = tls.is("preload", "YES");
            section.set(
                "hsts",
                format!("{{ max_age = \"{seconds}s\", include_subdomains = {subdomains}, preload = {preload} }}"),
            );
        }
        if let Some(profile) = tls.value("sslprofile") {
            self.notes
                .differs(tls.line, format!("-sslProfile {profile}: the policy intermediate holds; see tls_policy"));
        }
        for bind in &tls.binds {
            if bind.has("ciphername") || bind.has("eccCurveName") || bind.has("ecccurvename") {
                bind.seen.set(true);
                self.notes
                    .differs(bind.line, "ciphers and curves: the policy intermediate holds; see [tls_policy.NAME]");
            }
        }
        let asks = tls.is("clientauth", "ENABLED");
        let mode = if tls.is("clientcert", "Optional") { "optional" } else { "required" };
        tls.pass_over(&MEANINGLESS);
        if !asks {
            return Vec::new();
        }
        vec![self.client_cert(tls, ours, mode)]
    }

    fn client_cert(&mut self, tls: &'s Object, ours: &str, mode: &str) -> Section {
        let mut section = Section::table(&["service", ours, "client_cert"]);
        section.comment(format!("ssl vserver {}: -clientAuth ENABLED", tls.name));
        section.text("mode", mode);
        let authorities = self.authorities(tls);
        let files: Vec<&String> = authorities.iter().map(|(file, _)| file).collect();
        section.set("ca", list(&files));
        let mut checked: Option<(&str, usize)> = None;
        for bind in tls.binds.iter().filter(|bind| bind.has("ca")) {
            let word = match bind.value("ocspcheck").map(str::to_ascii_lowercase).as_deref() {
                Some("mandatory") => "required",
                Some("optional") => "optional",
                _ => continue,
            };
            if checked.is_none_or(|(before, _)| before == "optional") {
                checked = Some((word, bind.line));
            }
        }
        if let Some((word, line)) = checked {
            section.text("ocsp", word);
            self.notes.differs(
                line,
                format!("-ocspCheck: no responder is configured; each client's certificate names its own here, and one that \
                         names none counts as without an answer ({})", if word == "optional" { "let in" } else { "refused" }),
            );
        }
        if let Some(bind) = tls.binds.iter().find(|bind| bind.value("crlcheck").is_some()) {
            self.notes.differs(
                bind.line,
                format!("-crlCheck: name the list, crls = [\"FILE\"] under [service.{ours}.client_cert]"),
            );
        }
        section
    }

    /// Policies that hand the client's certificate on.
    pub(super) fn certificate_headers(&mut self, vserver: &'s Object, routes: &mut Vec<Route>) {
        let Some(tls) = self.site.get("ssl vserver", &vserver.name) else { return };
        for bind in by_priority(tls.binds.iter().filter(|bind| bind.has("policyname"))) {
            let Some(policy) = bind.value("policyname").and_then(|name| self.site.added("ssl policy", name)) else {
                continue;
            };
            let action = policy.value("action").and_then(|name| self.site.added("ssl action", name));
            let Some(action) = action.filter(|action| action.is("clientcert", "ENABLED")) else {
                self.notes
                    .left_out(policy.line, format!("ssl policy {}: only -clientCert is carried over", policy.name));
                continue;
            };
            let header = action.value("certheader").unwrap_or("NSClientCert").to_owned();
            match self.rule(policy) {
                Rule::Condition(condition) => {
                    insert(condition, routes, "cert", |route| route.certificate = Some(header.clone()));
                }
                Rule::Unknown(why) => {
                    self.notes.left_out(policy.line, format!("ssl policy {}: {why}", policy.name));
                }
            }
        }
    }
}

fn section_is_https(vserver: &Object) -> bool {
    vserver.words.first().is_some_and(|kind| kind.eq_ignore_ascii_case("SSL"))
}

/// Do something to routes to backends where the condition holds. That a certificate is there goes without saying: without one
/// there is no header. What a route asks for itself, and what routes before it have taken, is known of its requests.
pub(super) fn insert(condition: Condition, routes: &mut Vec<Route>, what: &str, mark: impl Fn(&mut Route)) {
    let has_one = Condition::Is("client_cert.present".into(), "true".into());
    let parts = match condition {
        Condition::All(parts) => parts,
        one => vec![one],
    };
    let parts: Vec<Condition> =
        parts.into_iter().filter(|part| *part != has_one && *part != Condition::Always).collect();
    let (mut taken, mut made): (Vec<Condition>, Vec<Route>) = (Vec::new(), Vec::new());
    for mut route in routes.drain(..) {
        let known =
            |part: &Condition| route.condition == *part || taken.iter().any(|taken| not(taken.clone()) == *part);
        let open: Vec<Condition> = parts.iter().filter(|part| !known(part)).cloned().collect();
        let never = open.iter().any(|part| known(&not(part.clone())));
        let condition = route.condition.clone();
        let to_backends = matches!(route.action, Action::Pool(_)) && !never;
        if to_backends && open.is_empty() {
            mark(&mut route);
        } else if to_backends {
            // Two routes in place of one: where it holds, and the rest.
            let narrow = all([vec![condition.clone()], open].concat());
            let mut with = Route::new(route.line, format!("{}-{what}", route.name), narrow, route.action.clone());
            with.authorizer.clone_from(&route.authorizer);
            with.certificate.clone_from(&route.certificate);
            with.changes.clone_from(&route.changes);
            mark(&mut with);
            made.push(with);
        }
        taken.push(condition);
        made.push(route);
    }
    *routes = made;
}
