//! Load balancing vservers with their services as pools.

use super::Import;
use super::expr;
use super::site::{Object, Site};
use super::text::text;
use crate::import::toml::{Section, list, quote};

/// What a pool's service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Http,
    Bytes,
    Packets,
}

/// A service, or a member of a group.
struct Member<'s> {
    /// The service, or the group.
    of: &'s Object,
    server: &'s str,
    port: &'s str,
    weight: Option<&'s str>,
    line: usize,
}

/// Seconds of silence towards a backend where nothing is said: what the appliance and a pool have for requests.
const SERVER_TIMEOUT: u32 = 360;
/// What the appliance has for other TCP.
const TCP_TIMEOUT: u32 = 9_000;
/// Members of a service that mean nothing here: what the edge does anyway, or what no proxy of this kind does.
const MEANINGLESS: [&str; 16] = [
    "gslb",
    "sp",
    "cka",
    "tcpb",
    "useproxyport",
    "cacheable",
    "appflowlog",
    "cmp",
    "cip",
    "maxreq",
    "comment",
    "rtspsessionidremap",
    "downstateflush",
    "customserverid",
    "hashid",
    "clttimeout",
];

impl<'s> Import<'s> {
    /// The pool of a vserver; it is written when it is asked for first.
    pub(super) fn pool(&mut self, vserver: &'s Object, speaks: Speaks) -> String {
        if let Some(known) = self.pools.get(&vserver.name) {
            return known.clone();
        }
        vserver.used.set(true);
        let name = self.name("pool", &vserver.name, vserver.line);
        self.pools.insert(vserver.name.clone(), name.clone());
        self.inside(vserver);
        let members = self.members(vserver);
        let mut section = Section::table(&["pool", &name]);
        let services: Vec<&str> = members.iter().map(|member| member.of.name.as_str()).collect();
        section.comment(format!("lb vserver {}: {}", vserver.name, services.join(", ")));
        let mut backends = self.backends(&members, false);
        if let Some(backup) = vserver.value("backupvserver").and_then(|name| self.site.added("lb vserver", name)) {
            let spare = self.members(backup);
            backends.extend(self.backends(&spare, true));
        }
        section.set("backends", format!("[{}]", backends.join(", ")));
        self.balance(vserver, speaks, &mut section);
        let first = members.first();
        let kind = first.map(|member| member_type(member.of)).unwrap_or_default();
        let default = if kind.contains("TCP") || kind == "SSL_BRIDGE" { TCP_TIMEOUT } else { SERVER_TIMEOUT };
        let idle = first.and_then(|member| member.of.value("svrtimeout")?.parse().ok()).unwrap_or(default);
        if idle != SERVER_TIMEOUT && idle > 0 && speaks != Speaks::Packets {
            section.text("timeouts.idle", &format!("{idle}s"));
        }
        self.sections.push(section);
        if speaks != Speaks::Packets {
            self.persistence(vserver, &name, speaks);
        }
        self.backend_tls(&members, &name);
        self.health(&members, &name);
        name
    }

    /// A vserver that is reached from inside alone has no client of its own: neither its timeout nor its certificate says
    /// anything.
    fn inside(&self, vserver: &'s Object) {
        if vserver.words.get(1).is_none_or(|port| port != "0") {
            return;
        }
        vserver.pass_over(&["clttimeout"]);
        let Some(tls) = self.site.get("ssl vserver", &vserver.name) else { return };
        tls.used.set(true);
        for bind in tls.binds.iter().filter(|bind| bind.has("certkeyname")) {
            bind.seen.set(true);
            self.notes
                .left_out(bind.line, format!("{} is reached from inside alone: it needs no certificate", vserver.name));
        }
    }

    fn members(&self, vserver: &'s Object) -> Vec<Member<'s>> {
        let site: &'s Site = self.site;
        let mut members = Vec::new();
        for bind in &vserver.binds {
            let Some(target) = bind.words.first() else { continue };
            let weight = bind.value("weight");
            if let Some(service) = site.added("service", target) {
                let [server, _, port, ..] = &service.words[..] else {
                    self.notes.left_out(service.line, format!("service {target}: server, type and port are missing"));
                    continue;
                };
                members.push(Member { of: service, server, port, weight, line: service.line });
            } else if let Some(group) = site.added("serviceGroup", target) {
                for member in group.binds.iter().filter(|bind| bind.words.len() >= 2) {
                    let (weight, port) = (member.value("weight").or(weight), &member.words[1]);
                    members.push(Member { of: group, server: &member.words[0], port, weight, line: member.line });
                }
            } else if bind.words.len() == 1 {
                self.notes.left_out(bind.line, format!("there is no service {target}"));
            }
        }
        members
    }

    fn backends(&mut self, members: &[Member<'_>], backup: bool) -> Vec<String> {
        let mut written: Vec<String> = Vec::new();
        for member in members {
            let of = member.of;
            of.pass_over(&MEANINGLESS);
            if of.is("usip", "YES") {
                self.notes.differs(
                    of.line,
                    "the edge speaks to backends from its own address: -usip YES is mode l4, or proxy_protocol",
                );
            }
            if of.value("maxreq").is_some_and(|most| most != "0") {
                self.notes.left_out(of.line, "-maxReq: connections to backends carry any number of requests");
            }
            let server = self.site.added("server", member.server);
            let off = of.disabled.or(server.and_then(|server| server.disabled));
            let off = off.or_else(|| of.is("state", "DISABLED").then_some(of.line));
            if let Some(line) = off {
                self.notes.left_out(line, format!("{} is out of service: bailey pool add takes it in", of.name));
                continue;
            }
            let host = server.and_then(|server| server.words.first()).map_or(member.server, String::as_str);
            let Ok(port) = member.port.parse::<u16>() else {
                self.notes.left_out(member.line, format!("{}: a backend has one port, not {}", of.name, member.port));
                continue;
            };
            let address = self.backend_address(host, port, member.line);
            if written.iter().any(|one| one.contains(&quote(&address))) {
                self.notes.left_out(member.line, format!("{address} is in the pool already"));
                continue;
            }
            let bound = of.value("maxclient").filter(|most| *most != "0");
            let mut keys = Vec::new();
            keys.extend(member.weight.filter(|weight| *weight != "1").map(|weight| format!("weight = {weight}")));
            keys.extend(bound.map(|most| format!("max_connections = {most}")));
            keys.extend(backup.then(|| "backup = true".to_owned()));
            let address = quote(&address);
            written.push(match keys.is_empty() {
                true => address,
                false => format!("{{ address = {address}, {} }}", keys.join(", ")),
            });
        }
        written
    }

    fn balance(&self, vserver: &Object, speaks: Speaks, section: &mut Section) {
        if speaks == Speaks::Packets {
            vserver.pass_over(&["lbmethod", "persistencetype", "timeout"]);
            return;
        }
        let method = vserver.value("lbmethod").unwrap_or("LEASTCONNECTION").to_ascii_uppercase();
        let hash = |key: Option<&str>| ("hash", key.map(str::to_owned));
        let (balance, key) = match method.as_str() {
            "ROUNDROBIN" => ("round_robin", None),
            "LEASTCONNECTION" => ("least_connections", None),
            "LEASTRESPONSETIME" | "LRTM" => ("peak_ewma", None),
            "SOURCEIPHASH" => hash(None),
            "URLHASH" => hash(Some("${request.uri}")),
            "DOMAINHASH" => hash(Some("${request.host}")),
            "TOKEN" => match vserver.value("rule").and_then(|rule| text(&expr::parse(rule).ok()?).ok()) {
                Some(key) => ("hash", Some(key)),
                None => ("hash", None),
            },
            other => {
                self.notes.differs(vserver.line, format!("-lbMethod {other} has no counterpart: least_connections"));
                ("least_connections", None)
            }
        };
        section.text("balance", balance);
        match (key, speaks) {
            (Some(key), Speaks::Http) => section.text("hash_key", &key),
            (Some(_), _) => {
                self.notes.differs(vserver.line, "only requests have a key: the client's address is hashed")
            }
            (None, _) => {}
        }
    }

    fn persistence(&mut self, vserver: &Object, pool: &str, speaks: Speaks) {
        let kind = vserver.value("persistencetype").unwrap_or("NONE").to_ascii_uppercase();
        let minutes: u32 = vserver.value("timeout").and_then(|minutes| minutes.parse().ok()).unwrap_or(2);
        let mut section = Section::table(&["pool", pool, "persistence"]);
        section.comment(format!("lb vserver {}: -persistenceType {kind}", vserver.name));
        let bits = |mask: &str| mask.parse::<std::net::Ipv4Addr>().ok().map(|mask| mask.to_bits().leading_ones());
        match (kind.as_str(), speaks) {
            ("NONE", _) => return,
            ("SOURCEIP", _) => {
                section.text("type", "source");
                if let Some(bits) = vserver.value("persistmask").and_then(bits).filter(|bits| *bits != 32) {
                    section.set("ipv4_prefix", bits.to_string());
                }
            }
            ("COOKIEINSERT", Speaks::Http) => {
                section.text("type", "cookie");
                if let Some(name) = vserver.value("cookiename") {
                    section.text("name", name);
                }
            }
            ("RULE", Speaks::Http) => {
                let rule = vserver.value("rule").unwrap_or_default();
                match expr::parse(rule).and_then(|expr| text(&expr)) {
                    Ok(key) => {
                        section.text("type", "key");
                        section.text("key", &key);
                    }
                    Err(why) => return self.notes.left_out(vserver.line, format!("-persistenceType RULE: {why}")),
                }
            }
            (other, _) => {
                let instead = "take source, or cookie for requests: [pool.NAME.persistence]";
                return self.notes.left_out(vserver.line, format!("-persistenceType {other}: {instead}"));
            }
        }
        match (kind.as_str(), minutes) {
            ("COOKIEINSERT", 0) => {}
            (_, minutes) => section.text("timeout", &format!("{}m", minutes.max(1))),
        }
        self.sections.push(section);
    }

    fn backend_tls(&mut self, members: &[Member<'_>], pool: &str) {
        let secure = |member: &&Member<'_>| matches!(member_type(member.of).as_str(), "SSL" | "SSL_TCP");
        let Some(first) = members.iter().find(secure) else { return };
        if !members.iter().all(|member| secure(&member)) {
            self.notes.differs(
                first.line,
                "services with TLS and without it in one vserver: the pool speaks TLS to all of them",
            );
        }
        let mut section = Section::table(&["pool", pool, "tls"]);
        let kind = if first.of.kind == "service" { "ssl service" } else { "ssl serviceGroup" };
        let options = self.site.get(kind, &first.of.name);
        let name = options.and_then(|options| options.value("commonname"));
        if let Some(options) = options {
            options.used.set(true);
            options.pass_over(&[
                "ssl3",
                "tls1",
                "tls11",
                "tls12",
                "tls13",
                "sessreuse",
                "sesstimeout",
                "serverauth",
                "sslprofile",
            ]);
            let authorities: Vec<String> = self.authorities(options).into_iter().map(|(file, _)| file).collect();
            if !authorities.is_empty() {
                section.set("ca", list(&authorities[..1]));
            }
        }
        if let Some(name) = name {
            section.text("server_name", name);
        }
        section.set("verify", "true");
        if options.is_none_or(|options| !options.is("serverauth", "ENABLED")) {
            let how = if name.is_some() { "by that name" } else { "by its name or address" };
            self.notes.differs(
                first.line,
                format!(
                    "{}: the appliance takes any certificate of a backend; here it is verified {how} against the \
                         system's roots: set ca and server_name, or verify = false, under [pool.{pool}.tls]",
                    first.of.name
                ),
            );
        }
        self.sections.push(section);
    }

    fn health(&mut self, members: &[Member<'_>], pool: &str) {
        let Some(first) = members.first() else { return };
        if first.of.is("healthmonitor", "NO") {
            return;
        }
        let mut names: Vec<(&str, usize)> = Vec::new();
        for of in members.iter().map(|member| member.of) {
            let bound = of.binds.iter().filter_map(|bind| Some((bind.value("monitorname")?, bind.line)));
            names.extend(bound.filter(|(name, _)| !names.iter().any(|(known, _)| known == name)).collect::<Vec<_>>());
        }
        let section = self.monitor(&names, pool, &member_type(first.of));
        self.sections.push(section);
    }
}

/// HTTP, SSL and so on, of a service or a group.
pub(super) fn member_type(object: &Object) -> String {
    let place = if object.kind == "service" { 1 } else { 0 };
    object.words.get(place).map(|kind| kind.to_ascii_uppercase()).unwrap_or_default()
}
