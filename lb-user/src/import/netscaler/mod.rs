//! A NetScaler's `ns.conf`. Read all lines (`lex`, `command`, `site`), then make of them: addressable vservers become services
//! (`services`, `tls`, `policies`), vservers become pools (`pools`, `monitors`), callouts authorizers (`callout`). Expressions are parsed
//! (`expr`) and become conditions (`condition`) or texts (`text`). Whatever nothing was made of is told at the end.

mod callout;
mod command;
mod condition;
mod expr;
mod lex;
mod monitors;
mod policies;
mod pools;
mod services;
mod site;
#[cfg(test)]
mod tests;
mod text;
mod tls;

use super::Imported;
use super::note::{Fate, Notes};
use super::toml::{self, Section};
use crate::config::dns_name;
pub use lex::Line;
use site::{Bind, Object, Site};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Longest name of anything.
const MAX_NAME: usize = 63;

/// The lines of a configuration as words. For those who try to break it.
pub fn read_lines(text: &str) -> Vec<Line> {
    lex::lines(text, &Notes::default())
}

/// All of a configuration.
pub fn netscaler(text: &str) -> Imported {
    let notes = Notes::default();
    let site = Site::read(&lex::lines(text, &notes), &notes);
    let mut import = Import {
        site: &site,
        notes: &notes,
        sections: Vec::new(),
        pools: BTreeMap::new(),
        names: BTreeMap::new(),
        stand_ins: BTreeMap::new(),
        files: Vec::new(),
        packets: false,
        drops: BTreeSet::new(),
    };
    import.services();
    import.callouts();
    let Import { sections, mut files, packets, .. } = import;
    site.rest(&notes);
    let notes = notes.sorted();
    files.sort();
    files.dedup();
    let mut edge = Section::table(&["edge"]);
    if packets {
        edge.comment("Services of mode l4 need XDP; name the interfaces that packets come in and go out by.");
        edge.set("interfaces", "[\"eth0\"]");
    } else {
        edge.comment("Sockets need neither BPF nor root. For XDP: datapath = \"native\", interfaces = [\"eth0\"].");
        edge.text("datapath", "sockets");
    }
    let mut head = vec!["Made from a NetScaler's configuration by bailey import netscaler.".to_owned()];
    head.extend(files.iter().map(|(file, what)| format!("To be put beside it: {file}, {what}.")));
    let mut foot: Vec<String> = notes
        .iter()
        .map(|note| {
            let fate = if note.fate == Fate::LeftOut { "left out: " } else { "" };
            format!("line {}: {fate}{}", note.line, note.says)
        })
        .collect();
    if !foot.is_empty() {
        foot.insert(0, "What was said of it, by line:".to_owned());
    }
    let sections: Vec<Section> = [edge].into_iter().chain(sections).collect();
    Imported { toml: toml::file(&head, &sections, &foot), notes, files }
}

/// Binds in the order that the appliance tries them in: the lowest priority first.
fn by_priority<'s>(binds: impl Iterator<Item = &'s Bind>) -> Vec<&'s Bind> {
    let mut bound: Vec<(u32, &Bind)> = binds.map(|bind| (bind.priority(), bind)).collect();
    bound.sort_by_key(|(priority, _)| *priority);
    bound.into_iter().map(|(_, bind)| bind).collect()
}

/// What is being made.
struct Import<'s> {
    site: &'s Site,
    notes: &'s Notes,
    sections: Vec<Section>,
    /// By vserver.
    pools: BTreeMap<String, String>,
    /// Names that are taken, by kind and name; what they stand for.
    names: BTreeMap<(&'static str, String), String>,
    /// Addresses for what has none.
    stand_ins: BTreeMap<String, Ipv4Addr>,
    files: Vec<(String, String)>,
    /// Some service is of mode `l4`.
    packets: bool,
    /// Callouts, in small letters, whose refusal is silence.
    drops: BTreeSet<String>,
}

impl<'s> Import<'s> {
    /// A name that Bailey takes, for one of the appliance's.
    fn name(&mut self, kind: &'static str, theirs: &str, line: usize) -> String {
        let allowed = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let plain: String = theirs.trim_matches(['[', ']']).chars().map(allowed).take(MAX_NAME).collect();
        let plain = if plain.is_empty() { "unnamed".to_owned() } else { plain };
        let numbered = |n: usize| match n {
            1 => plain.clone(),
            n => format!("{}-{n}", plain.chars().take(MAX_NAME - 5).collect::<String>()),
        };
        let free = |name: &String| self.names.get(&(kind, name.clone())).is_none_or(|taken| taken == theirs);
        let name = (1..).map(numbered).find(free).unwrap_or_default();
        if name != theirs && self.names.insert((kind, name.clone()), theirs.to_owned()).is_none() {
            self.notes.repaired(line, format!("{theirs:?} is called {name:?}"));
        }
        self.names.insert((kind, name.clone()), theirs.to_owned());
        name
    }

    /// An address of the appliance.
    fn address(&mut self, theirs: &str, line: usize) -> IpAddr {
        if let Ok(address) = theirs.parse::<IpAddr>() {
            return address;
        }
        IpAddr::V4(self.stand_in(theirs, line))
    }

    /// An address of documentation (RFC 5737) in place of what is none.
    fn stand_in(&mut self, theirs: &str, line: usize) -> Ipv4Addr {
        let next = self.stand_ins.len() as u32;
        // TEST-NET-1, then TEST-NET-2 and 3; who has more placeholders than that writes a list of them anyway.
        let nets = [[192, 0, 2], [198, 51, 100], [203, 0, 113]];
        let [a, b, c] = nets[(next as usize / 254).min(2)];
        let fresh = Ipv4Addr::new(a, b, c, (next % 254 + 1) as u8);
        let address = *self.stand_ins.entry(theirs.to_owned()).or_insert(fresh);
        self.notes
            .differs(line, format!("{theirs} is no address: {address} stands in its place, put the real one there"));
        address
    }

    /// `IP:PORT` or `NAME:PORT` of a backend.
    fn backend_address(&mut self, host: &str, port: u16, line: usize) -> String {
        if host.contains('.') && !host.contains('*') && host.parse::<IpAddr>().is_err() && dns_name(host).is_ok() {
            return format!("{}:{port}", host.to_ascii_lowercase());
        }
        SocketAddr::new(self.address(host, line), port).to_string()
    }

    /// Files of the authorities that are bound to something with TLS, and the lines of the binds.
    fn authorities(&mut self, object: &'s Object) -> Vec<(String, usize)> {
        let bound = object.binds.iter().filter(|bind| bind.has("ca"));
        let bound: Vec<(&str, usize)> =
            bound.filter_map(|bind| Some((bind.value("certkeyname")?, bind.line))).collect();
        bound
            .into_iter()
            .map(|(name, line)| (self.certificate_file(name, "the authority's certificate"), line))
            .collect()
    }

    /// The file of a `certKey`; one that is made nowhere has its name.
    fn certificate_file(&mut self, name: &str, what: &str) -> String {
        let made = self.site.added("ssl certKey", name);
        let file = made.and_then(|made| made.value("cert")).map(|file| base(file).to_owned());
        let file = file.unwrap_or_else(|| format!("{}.pem", file_name(name)));
        if let Some(made) = made {
            made.pass_over(&[
                "key",
                "inform",
                "expirymonitor",
                "notificationperiod",
                "passcrypt",
                "password",
                "bundle",
            ]);
        }
        self.files.push((file.clone(), format!("{what} {name}")));
        file
    }
}

/// A path's last part: files lie beside the config.
fn base(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

/// A name as the name of a file.
fn file_name(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    name.trim_matches(['[', ']']).chars().map(allowed).collect()
}
