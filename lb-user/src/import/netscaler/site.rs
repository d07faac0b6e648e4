//! All that the configuration makes: objects with their options and what is bound to them. Binds may come before the adds
//! they name, so everything is read before anything is made of it.

use super::command::{Command, Flag, commands};
use super::lex::{Line, is_secret};
use crate::import::note::Notes;
use std::cell::Cell;
use std::collections::BTreeMap;

/// All objects.
#[derive(Debug, Default)]
pub(super) struct Site {
    objects: Vec<Object>,
    index: BTreeMap<(&'static str, String), usize>,
}

/// Something that has a name.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) line: usize,
    /// Words behind the name.
    pub(super) words: Vec<String>,
    options: Vec<Flag>,
    pub(super) binds: Vec<Bind>,
    /// It is out of service; the line that says so.
    pub(super) disabled: Option<usize>,
    /// It was made by `add`.
    pub(super) added: bool,
    /// Something was made of it.
    pub(super) used: Cell<bool>,
}

/// What is bound to an object.
#[derive(Debug)]
pub(super) struct Bind {
    pub(super) line: usize,
    pub(super) words: Vec<String>,
    options: Vec<Flag>,
    pub(super) seen: Cell<bool>,
}

fn find<'o>(options: &'o [Flag], name: &str) -> Option<&'o Flag> {
    // What was set last holds; all of that name are done with.
    let mut found = None;
    for option in options.iter().filter(|option| option.name == name) {
        option.seen.set(true);
        found = Some(option);
    }
    found
}

impl Object {
    /// An option.
    pub(super) fn option(&self, name: &str) -> Option<&Flag> {
        find(&self.options, name)
    }

    /// Its first value.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.option(name)?.values.first().map(String::as_str)
    }

    /// Whether its first value is this word.
    pub(super) fn is(&self, name: &str, word: &str) -> bool {
        self.value(name).is_some_and(|value| value.eq_ignore_ascii_case(word))
    }

    /// Options that mean nothing here, or what they say by default.
    pub(super) fn pass_over(&self, names: &[&str]) {
        for name in names {
            find(&self.options, name);
        }
    }
}

impl Bind {
    /// First value of an option.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.seen.set(true);
        find(&self.options, name)?.values.first().map(String::as_str)
    }

    /// The same, and nothing is done with it.
    pub(super) fn names(&self, name: &str) -> Option<&str> {
        self.options.iter().rfind(|option| option.name == name)?.values.first().map(String::as_str)
    }

    /// Whether it has an option.
    pub(super) fn has(&self, name: &str) -> bool {
        find(&self.options, name).is_some()
    }

    /// What its policies are tried by; the lowest first.
    pub(super) fn priority(&self) -> u32 {
        self.value("priority").and_then(|priority| priority.parse().ok()).unwrap_or(u32::MAX)
    }
}

impl Site {
    /// Read all lines. What is none of ours is told.
    pub(super) fn read(lines: &[Line], notes: &Notes) -> Self {
        let mut site = Self::default();
        for line in lines {
            if line.words.iter().any(|word| !word.quoted && word.text.eq_ignore_ascii_case("-encrypted")) {
                notes.differs(line.number, "an encrypted secret cannot be decoded: write it anew");
            }
            match commands(line) {
                Ok(commands) => commands.into_iter().for_each(|command| site.take(command, notes)),
                Err(error) => notes.left_out(line.number, error),
            }
        }
        site
    }

    fn take(&mut self, command: Command, notes: &Notes) {
        let Command { line, verb, kind, mut words, options } = command;
        let (Some(kind), false) = (kind, words.is_empty()) else {
            return notes.left_out(line, foreign(&verb, &words));
        };
        let name = words.remove(0);
        match verb.as_str() {
            "add" | "set" | "bind" | "link" | "disable" | "enable" => {}
            "rm" | "remove" => return self.remove(kind, &name, notes, line),
            "unset" => {
                let known = self.object(kind, &name, line);
                known.options.retain(|option| !options.iter().any(|unset| unset.name == option.name));
                return;
            }
            _ => return notes.left_out(line, format!("{verb} {kind} is not carried over")),
        }
        let object = self.object(kind, &name, line);
        match verb.as_str() {
            "bind" => object.binds.push(Bind { line, words, options, seen: Cell::new(false) }),
            "link" => {
                let with = words.first().cloned().unwrap_or_default();
                notes.differs(
                    line,
                    format!("a chain is one file here: append the certificate of {with} to that of {name}"),
                );
            }
            "disable" => object.disabled = Some(line),
            "enable" => object.disabled = None,
            _ => {
                if verb == "add" {
                    (object.line, object.added, object.words) = (line, true, words);
                }
                object.options.extend(options);
            }
        }
    }

    fn object(&mut self, kind: &'static str, name: &str, line: usize) -> &mut Object {
        let place = *self.index.entry((kind, name.to_owned())).or_insert(self.objects.len());
        if place == self.objects.len() {
            self.objects.push(Object {
                kind,
                name: name.to_owned(),
                line,
                words: Vec::new(),
                options: Vec::new(),
                binds: Vec::new(),
                disabled: None,
                added: false,
                used: Cell::new(false),
            });
        }
        &mut self.objects[place]
    }

    fn remove(&mut self, kind: &'static str, name: &str, notes: &Notes, line: usize) {
        match self.index.remove(&(kind, name.to_owned())) {
            // It stays in the list, done with.
            Some(place) => {
                let gone = &mut self.objects[place];
                gone.added = false;
                gone.used.set(true);
                gone.options.clear();
                gone.binds.clear();
            }
            None => notes.left_out(line, format!("there is no {kind} {name}")),
        }
    }

    /// The object of a kind and name.
    pub(super) fn get(&self, kind: &'static str, name: &str) -> Option<&Object> {
        self.index.get(&(kind, name.to_owned())).map(|place| &self.objects[*place])
    }

    /// One that was added; it counts as used from here on.
    pub(super) fn added(&self, kind: &'static str, name: &str) -> Option<&Object> {
        let object = self.get(kind, name).filter(|object| object.added)?;
        object.used.set(true);
        Some(object)
    }

    /// All of a kind, as they come.
    pub(super) fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = &Object> {
        let known = move |object: &&Object| object.kind == kind && self.get(kind, &object.name).is_some();
        self.objects.iter().filter(known)
    }

    /// What nothing was made of.
    pub(super) fn rest(&self, notes: &Notes) {
        for object in &self.objects {
            let Object { kind, name, line, .. } = object;
            if !object.used.get() {
                let why = if object.added { "it is bound nowhere that was carried over" } else { "it is made nowhere" };
                notes.left_out(*line, format!("{kind} {name}: {why}"));
                continue;
            }
            for option in object.options.iter().filter(|option| !option.seen.get()) {
                notes.left_out(option.line, format!("{kind} {name}: -{} {}", option.name, shown(option)).trim());
            }
            for bind in &object.binds {
                if !bind.seen.get() {
                    notes.left_out(bind.line, format!("what is bound to {kind} {name} here"));
                    continue;
                }
                for option in bind.options.iter().filter(|option| !option.seen.get()) {
                    let values = shown(option);
                    notes.left_out(option.line, format!("bound to {kind} {name}: -{} {values}", option.name).trim());
                }
            }
        }
    }
}

/// Why a line is none of ours.
fn foreign(verb: &str, words: &[String]) -> String {
    let group = words.first().map(|word| word.to_ascii_lowercase()).unwrap_or_default();
    let why = match group.as_str() {
        "ns" if words.get(1).is_some_and(|word| word.eq_ignore_ascii_case("feature")) => "what is used here is on",
        "ns" | "network" | "interface" | "vlan" | "route" | "channel" | "vrid" | "arp" | "rnat" | "ip6tunnel"
        | "bridge" => "addresses, routes and settings are the host's here",
        "system" | "aaa" | "authentication" | "authorization" | "vpn" | "tm" => {
            "users and gateways have no counterpart; who may use the command line is who may use its socket"
        }
        "snmp" | "audit" | "appflow" | "nslog" | "syslog" => "see metrics and access logs",
        "ha" | "cluster" => "an edge stands alone in this release",
        "cache" | "cmp" | "filter" | "appfw" | "dns" | "gslb" | "cr" | "db" => {
            "this feature has no counterpart, or another form"
        }
        _ => "not known to this import",
    };
    format!("{verb} {}: {why}", words.iter().take(2).cloned().collect::<Vec<_>>().join(" "))
}

/// Values for people; what may be a secret is none of theirs.
fn shown(option: &Flag) -> String {
    if is_secret(&option.name) { "(not shown)".into() } else { option.values.join(" ") }
}
