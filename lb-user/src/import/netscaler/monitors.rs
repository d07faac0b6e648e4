//! Monitors as health checks.

use super::site::Object;
use super::{Import, base};
use crate::import::toml::{Section, quote};

/// Monitors of the appliance's own, by name, as types of checks.
const BUILT_IN: [(&str, &str); 8] = [
    ("tcp-default", "tcp"),
    ("tcp", "tcp"),
    ("ping-default", "icmp"),
    ("ping", "icmp"),
    ("http", "http"),
    ("https", "https"),
    ("http-ecv", "http"),
    ("tcps", "tls"),
];

impl<'s> Import<'s> {
    /// The check of a pool whose services have these monitors, named at these lines, and are of this type.
    pub(super) fn monitor(&mut self, names: &[(&str, usize)], pool: &str, service: &str) -> Section {
        let mut section = Section::table(&["pool", pool, "health"]);
        for (name, line) in names.iter().skip(1) {
            self.notes.left_out(*line, format!("monitor {name}: a pool has one check, {} here", names[0].0));
        }
        let Some((name, line)) = names.first() else {
            section.comment("the appliance's default monitor");
            let silent = matches!(service, "UDP" | "DNS" | "ANY" | "SIP_UDP" | "RADIUS" | "TFTP");
            section.text("type", if silent { "icmp" } else { "tcp" });
            return section;
        };
        let Some(monitor) = self.site.added("lb monitor", name) else {
            let known = BUILT_IN.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            section.text("type", known.map_or("tcp", |(_, kind)| kind));
            if known.is_none() {
                self.notes.differs(*line, format!("monitor {name} is made nowhere: a connection is tried instead"));
            }
            return section;
        };
        section.comment(format!("lb monitor {name}"));
        let kind = monitor.words.first().map(|kind| kind.to_ascii_uppercase()).unwrap_or_default();
        self.kind(monitor, &kind, &mut section);
        let over_tls = matches!(service, "SSL" | "SSL_TCP");
        if matches!(kind.as_str(), "HTTP" | "HTTP-ECV" | "TCP-ECV") && monitor.is("secure", "YES") != over_tls {
            section.set("tls", (!over_tls).to_string());
        }
        if let Some(address) = monitor.value("destip").and_then(|address| address.parse::<std::net::IpAddr>().ok()) {
            section.text("address", &address.to_string());
        }
        if let Some(port) = monitor.value("destport").filter(|port| *port != "0" && kind != "PING") {
            section.set("port", port.to_owned());
        }
        for (theirs, ours) in [("interval", "interval"), ("resptimeout", "timeout"), ("downtime", "down_interval")] {
            let Some(time) = monitor.option(theirs) else { continue };
            let (number, unit) = (time.values.first(), time.values.get(1).map(|unit| unit.to_ascii_uppercase()));
            let unit = match unit.as_deref() {
                Some("MSEC") => "ms",
                Some("MIN") => "m",
                _ => "s",
            };
            if let Some(number) = number {
                section.text(ours, &format!("{number}{unit}"));
            }
        }
        for (theirs, ours) in [("successretries", "rise"), ("retries", "fall")] {
            if let Some(count) = monitor.value(theirs) {
                section.set(ours, count.to_owned());
            }
        }
        if monitor.is("reverse", "YES") {
            section.set("reverse", "true");
        }
        monitor.pass_over(&["secure", "lrtm", "deviation", "comment", "destport"]);
        section
    }

    /// What is asked.
    fn kind(&mut self, monitor: &'s Object, kind: &str, section: &mut Section) {
        match kind {
            "TCP" => section.text("type", "tcp"),
            "PING" => section.text("type", "icmp"),
            "HTTP" | "HTTP-ECV" => {
                section.text("type", "http");
                let asked = monitor.value("httprequest").or_else(|| monitor.value("send")).unwrap_or("GET /");
                let mut words = asked.split_whitespace();
                match words.next().unwrap_or("GET").to_ascii_uppercase().as_str() {
                    "GET" => {}
                    method @ ("HEAD" | "OPTIONS" | "POST") => section.text("method", method),
                    method => self.notes.differs(monitor.line, format!("GET is sent in place of {method}")),
                }
                section.text("path", words.next().unwrap_or("/"));
                let codes = monitor.option("respcode").map(|codes| codes.values.clone()).unwrap_or_default();
                let code = |code: &String| if code.contains('-') { quote(code) } else { code.clone() };
                let codes: Vec<String> = codes.iter().map(code).collect();
                section.set(
                    "codes",
                    if codes.is_empty() { "[200]".to_owned() } else { format!("[{}]", codes.join(", ")) },
                );
                if let Some(host) = monitor.value("customheaders").and_then(host) {
                    section.text("host", &host);
                }
                if let Some(text) = monitor.value("recv") {
                    section.text("body", text);
                }
            }
            "TCP-ECV" | "UDP-ECV" => {
                section.text("type", "text");
                if kind == "UDP-ECV" {
                    section.text("transport", "udp");
                }
                if let Some(text) = monitor.value("send") {
                    section.text("send", &bytes(text));
                }
                section.text("expect", &bytes(monitor.value("recv").unwrap_or_default()));
            }
            "DNS" => {
                section.text("type", "dns");
                section.text("query", monitor.value("query").unwrap_or_default());
                match monitor.value("querytype").map(str::to_ascii_uppercase).as_deref() {
                    None | Some("ADDRESS") => {}
                    Some("AAAA") => section.text("record", "AAAA"),
                    Some(_) => section.text("record", "SOA"),
                }
                if let Some(address) = monitor.value("ipaddress") {
                    section.text("expect", address);
                }
            }
            "LDAP" => {
                section.text("type", "ldap");
                if let Some(name) = monitor.value("binddn") {
                    section.text("bind_dn", name);
                    let file = format!("{}.password", super::file_name(base(&monitor.name)));
                    section.text("password_file", &file);
                    self.files.push((file, format!("the password of {name}, in its first line")));
                }
                monitor.pass_over(&[
                    "password",
                    "scriptname",
                    "dispatcherip",
                    "dispatcherport",
                    "encrypted",
                    "encryptmethod",
                ]);
            }
            other => {
                section.text("type", "tcp");
                let says = format!("monitor {}: {other} has no counterpart; a connection is tried", monitor.name);
                self.notes.differs(monitor.line, says);
            }
        }
    }
}

/// Of `Host: name\r\n`.
fn host(headers: &str) -> Option<String> {
    let lines = headers.lines().filter_map(|line| line.split_once(':'));
    let mut hosts = lines.filter(|(name, _)| name.trim().eq_ignore_ascii_case("host"));
    hosts.next().map(|(_, value)| value.trim().to_owned())
}

/// As checks write bytes.
fn bytes(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'\r' => out.push_str("\\r"),
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("\\x{other:02x}")),
        }
    }
    out
}
