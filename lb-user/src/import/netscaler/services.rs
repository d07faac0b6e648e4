//! Addressable vservers as services, with their routes.

use super::condition::{Condition, keys};
use super::policies::{Action, Rule};
use super::pools::{Speaks, member_type};
use super::site::Object;
use super::tls::insert;
use super::{Import, by_priority};
use crate::import::toml::{Section, key, list, quote};

/// Seconds of silence of a client where nothing is said: what the appliance and a service have for requests.
const CLIENT_TIMEOUT: u32 = 180;
/// What the appliance has for other TCP.
const TCP_TIMEOUT: u32 = 9_000;
/// Highest priority of a route, and what lies between two: room for more.
const STEP: usize = 10;

/// A route.
pub(super) struct Route {
    /// Whose policy it is.
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) condition: Condition,
    pub(super) action: Action,
    /// Header that the backend finds the client's certificate in.
    pub(super) certificate: Option<String>,
    /// Who is asked before.
    pub(super) authorizer: Option<String>,
    /// Headers of requests and answers that are changed: table, key, TOML.
    pub(super) changes: Vec<(&'static str, String)>,
}

impl Route {
    pub(super) fn new(line: usize, name: impl Into<String>, condition: Condition, action: Action) -> Self {
        let (certificate, authorizer) = (None, None);
        Self { line, name: name.into(), condition, action, certificate, authorizer, changes: Vec::new() }
    }
}

impl<'s> Import<'s> {
    /// All of them.
    pub(super) fn services(&mut self) {
        let site = self.site;
        for vserver in site.of_kind("cs vserver").chain(site.of_kind("lb vserver")) {
            let addressable = vserver.words.get(2).is_some_and(|port| port != "0");
            if vserver.added && addressable {
                vserver.used.set(true);
                self.service(vserver);
            } else if vserver.added && vserver.kind == "cs vserver" {
                vserver.used.set(true);
                self.notes.left_out(vserver.line, format!("cs vserver {}: nobody can reach it", vserver.name));
            }
        }
    }

    fn service(&mut self, vserver: &'s Object) {
        let Object { kind, name, line, words, .. } = vserver;
        let theirs = words[0].to_ascii_uppercase();
        let (mode, speaks) = match theirs.as_str() {
            "HTTP" => ("http", Speaks::Http),
            "SSL" => ("https", Speaks::Http),
            "SSL_TCP" => ("tls", Speaks::Bytes),
            "SSL_BRIDGE" => ("passthrough", Speaks::Bytes),
            "TCP" | "DNS_TCP" | "FTP" | "MYSQL" | "MSSQL" | "RTSP" => ("tcp", Speaks::Bytes),
            "UDP" | "DNS" | "SIP_UDP" | "RADIUS" | "TFTP" | "ANY" => ("l4", Speaks::Packets),
            other => {
                self.notes.left_out(*line, format!("{kind} {name}: {other} has no counterpart"));
                return;
            }
        };
        if let Some(line) = vserver.disabled.or_else(|| vserver.is("state", "DISABLED").then_some(*line)) {
            self.notes.left_out(line, format!("{kind} {name} is out of service"));
            return;
        }
        let ends_tls = matches!(mode, "https" | "tls");
        let certificates = if ends_tls { self.certificates(vserver) } else { Vec::new() };
        if ends_tls && certificates.is_empty() {
            self.notes
                .left_out(*line, format!("{kind} {name} has no certificate; the appliance keeps it down: bind one"));
            self.pass_over_unused(vserver);
            return;
        }
        let ours = self.name("service", name, *line);
        let mut section = Section::table(&["service", &ours]);
        section.comment(format!("{kind} {name}"));
        let address = self.address(&words[1], *line);
        let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
        section.set("addresses", list(&[format!("{host}:{}", words[2])]));
        section.text("mode", mode);
        vserver.pass_over(&["comment", "appflowlog", "icmpvsrresponse", "rhistate", "downstateflush", "td", "l2conn"]);
        let mut more = Vec::new();
        if ends_tls {
            section.set("certificates", list(&certificates));
            more.extend(self.service_tls(vserver, &ours, &mut section));
        }
        if speaks == Speaks::Packets {
            self.packets(vserver, &theirs, section);
            return;
        }
        self.timeout(vserver, &theirs, &mut section);
        if speaks == Speaks::Http {
            self.of_services(vserver, &mut section);
        }
        let routes = self.routes(vserver, speaks);
        self.write_routes(&ours, section, more, routes, speaks);
    }

    /// What stands on a vserver that is left out belongs to it.
    fn pass_over_unused(&self, vserver: &'s Object) {
        vserver.binds.iter().for_each(|bind| bind.seen.set(true));
        vserver.pass_over(&["persistencetype", "clttimeout", "lbmethod", "timeout"]);
        for object in ["service", "serviceGroup"].into_iter().flat_map(|kind| self.site.of_kind(kind)) {
            let named = |bind: &super::site::Bind| bind.words.first() == Some(&object.name);
            // A service that nothing else names is told with the vserver.
            if vserver.binds.iter().any(named) && !object.used.get() {
                self.notes.left_out(object.line, format!("{} {}: its vserver is left out", object.kind, object.name));
            }
        }
    }

    fn packets(&mut self, vserver: &'s Object, theirs: &str, mut section: Section) {
        self.packets = true;
        let protocols: &[&str] = if theirs == "ANY" { &["tcp", "udp"] } else { &["udp"] };
        section.set("protocols", list(protocols));
        section.text("forward", "nat");
        vserver.pass_over(&["clttimeout"]);
        let pool = self.pool(vserver, Speaks::Packets);
        section.text("pool", &pool);
        self.notes.differs(
            vserver.line,
            format!(
                "{}: sent on by XDP; backends see the client, so their route to clients leads to the edge",
                vserver.name
            ),
        );
        self.sections.push(section);
    }

    fn timeout(&self, vserver: &'s Object, theirs: &str, section: &mut Section) {
        let default = if matches!(theirs, "HTTP" | "SSL") { CLIENT_TIMEOUT } else { TCP_TIMEOUT };
        let idle = vserver.value("clttimeout").and_then(|seconds| seconds.parse().ok()).unwrap_or(default);
        match idle {
            CLIENT_TIMEOUT => {}
            0 => self.notes.differs(vserver.line, "-cltTimeout 0: a silent client is kept for the default time"),
            idle => section.text("timeouts.idle", &format!("{idle}s")),
        }
    }

    /// What the appliance has on a service and Bailey on who is in front of it.
    fn of_services(&self, vserver: &'s Object, section: &mut Section) {
        let mut header = None;
        let mut compress = false;
        for bind in vserver.binds.iter().flat_map(|bind| bind.words.first()) {
            let service = self.site.get("service", bind).or_else(|| self.site.get("serviceGroup", bind));
            let Some(service) = service else { continue };
            if service.is("cip", "ENABLED") {
                let option = service.option("cip").and_then(|option| option.values.get(1));
                header = Some(option.map_or("client-ip", String::as_str));
            }
            compress |= service.is("cmp", "YES") && member_type(service) == "HTTP";
        }
        if let Some(header) = header {
            section.text("client_ip_header", &header.to_ascii_lowercase());
        }
        if compress {
            section.set("compression", "true");
        }
    }

    fn routes(&mut self, vserver: &'s Object, speaks: Speaks) -> Vec<Route> {
        let (mut routes, mut asked) = (Vec::new(), Vec::new());
        if speaks == Speaks::Http {
            routes.extend(self.responders(vserver, &mut asked));
        }
        if vserver.kind == "lb vserver" {
            if vserver.value("redirecturl").is_some() {
                self.notes.left_out(vserver.line, "-redirectURL: while nobody is up it is 503 here");
            }
            let pool = self.pool(vserver, speaks);
            routes.push(Route::new(vserver.line, "default", Condition::Always, Action::Pool(pool)));
        } else {
            routes.extend(self.switched(vserver, speaks));
        }
        if speaks == Speaks::Http {
            for (when, authorizer) in asked {
                insert(when, &mut routes, "asked", |route| route.authorizer = Some(authorizer.clone()));
            }
            self.certificate_headers(vserver, &mut routes);
            self.rewrites(vserver, &mut routes);
        }
        routes
    }

    /// Policies of a content switching vserver: the lowest priority first, then its default.
    fn switched(&mut self, vserver: &'s Object, speaks: Speaks) -> Vec<Route> {
        let mut routes = Vec::new();
        for bind in by_priority(vserver.binds.iter().filter(|bind| bind.has("policyname"))) {
            let Some(policy) = bind.value("policyname").and_then(|name| self.site.added("cs policy", name)) else {
                continue;
            };
            let action = policy.value("action").and_then(|name| self.site.added("cs action", name));
            let target = bind.value("targetlbvserver").or_else(|| action?.value("targetlbvserver"));
            let Some(target) = target.and_then(|name| self.site.added("lb vserver", name)) else {
                self.notes.left_out(bind.line, format!("cs policy {}: there is no such target", policy.name));
                continue;
            };
            match self.rule(policy) {
                Rule::Condition(condition) => {
                    let pool = self.pool(target, speaks);
                    let name = self.name("route", &policy.name, policy.line);
                    routes.push(Route::new(bind.line, name, condition, Action::Pool(pool)));
                }
                Rule::Unknown(why) => self.notes.left_out(policy.line, format!("cs policy {}: {why}", policy.name)),
            }
        }
        let default = vserver.binds.iter().find_map(|bind| bind.value("lbvserver").or_else(|| plain_target(bind)));
        if let Some(target) = default.and_then(|name| self.site.added("lb vserver", name)) {
            let pool = self.pool(target, speaks);
            routes.push(Route::new(vserver.line, "default", Condition::Always, Action::Pool(pool)));
        }
        routes
    }

    fn write_routes(
        &mut self,
        service: &str,
        mut section: Section,
        more: Vec<Section>,
        mut routes: Vec<Route>,
        speaks: Speaks,
    ) {
        if let Some(first) = routes.iter().position(|route| route.condition == Condition::Always) {
            for unreachable in routes.drain(first + 1..) {
                self.notes.left_out(
                    unreachable.line,
                    format!("{}: what stands before it takes everything", unreachable.name),
                );
            }
        } else if speaks == Speaks::Http {
            let none = Action::Answer { status: 503, body: String::new() };
            routes.push(Route::new(0, "none", Condition::Always, none));
        }
        // What takes the rest stands with the service, unless it does more than a service can say.
        let rest = routes.pop_if(|route| matches!(route.action, Action::Pool(_)) && route.changes.is_empty());
        let (mut certificate, mut authorizer) = (None, None);
        if let Some(Route { action: Action::Pool(pool), certificate: own, authorizer: asked, .. }) = rest {
            section.text("pool", &pool);
            (certificate, authorizer) = (own, asked);
            if let Some(header) = &certificate {
                section.set("client_cert_headers", format!("{{ {} = \"pem\" }}", key(header)));
            }
            if let Some(asked) = &authorizer {
                section.text("authorizer", asked);
            }
        }
        self.sections.push(section);
        self.sections.extend(more);
        let count = routes.len();
        for (place, route) in routes.into_iter().enumerate() {
            let mut section = Section::element(&["service", service, "routes"]);
            section.text("name", if route.name == "default" { "rest" } else { &route.name });
            if count > 1 {
                section.set("priority", ((count - place) * STEP).to_string());
            }
            for (key, value) in keys(&route.condition) {
                section.set(&key, value);
            }
            match &route.action {
                Action::Pool(pool) => section.text("pool", pool),
                Action::Redirect { to, code } => {
                    section.set("redirect", format!("{{ to = {}, code = {code} }}", quote(to)))
                }
                Action::Answer { status, body } if body.is_empty() => section.set("respond", status.to_string()),
                Action::Answer { status, body } => {
                    section.set("respond", format!("{{ status = {status}, body = {} }}", quote(body)));
                }
            }
            let to_backends = matches!(route.action, Action::Pool(_));
            match &route.certificate {
                _ if !to_backends || route.certificate == certificate => {}
                Some(header) => section.set("client_cert_headers", format!("{{ {} = \"pem\" }}", key(header))),
                None => section.set("client_cert_headers", "{}"),
            }
            match &route.authorizer {
                _ if route.authorizer == authorizer => {}
                Some(asked) => section.text("authorizer", asked),
                None => section.text("authorizer", "none"),
            }
            for (key, value) in &route.changes {
                section.set(key, value.clone());
            }
            self.sections.push(section);
        }
    }
}

/// `bind cs vserver V -lbvserver L`, and what older releases write: the name alone.
fn plain_target(bind: &super::site::Bind) -> Option<&str> {
    let first = bind.words.first()?;
    bind.seen.set(true);
    Some(first)
}
