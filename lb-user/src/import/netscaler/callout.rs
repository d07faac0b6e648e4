//! Callouts as authorizers.

use super::Import;
use super::expr::{self, Expr};
use super::pools::Speaks;
use super::site::Object;
use super::text::{parameter, text};
use crate::import::toml::{Section, key};

/// The appliance waits so long for an answer.
const TIMEOUT: &str = "10s";
/// What answers of the appliance's partner say; no policy says what lets a request pass.
const ALLOW: &str = "Allow";

impl<'s> Import<'s> {
    /// All of them, with what lets a request pass where a policy says so.
    pub(super) fn callouts(&mut self) {
        let site = self.site;
        for callout in site.of_kind("policy httpCallout").filter(|callout| callout.added) {
            callout.used.set(true);
            if let Err(why) = self.callout(callout) {
                self.notes.left_out(callout.line, format!("callout {}: {why}", callout.name));
            }
        }
    }

    fn callout(&mut self, callout: &'s Object) -> Result<(), String> {
        let name = self.name("authorizer", &callout.name, callout.line);
        let mut section = Section::table(&["authorizer", &name]);
        section.comment(format!("policy httpCallout {}", callout.name));
        match (callout.value("vserver"), callout.value("ipaddress")) {
            (Some(vserver), _) => {
                let vserver =
                    self.site.added("lb vserver", vserver).ok_or_else(|| format!("there is no vserver {vserver}"))?;
                let inside = vserver.words.first().is_some_and(|kind| kind.eq_ignore_ascii_case("SSL"));
                if inside && vserver.words.get(1).is_some_and(|port| port == "0") {
                    self.notes.repaired(
                        vserver.line,
                        format!(
                            "{} is of type SSL and is reached from inside alone: the pool speaks as its services do",
                            vserver.name
                        ),
                    );
                }
                let pool = self.pool(vserver, Speaks::Http);
                section.text("pool", &pool);
            }
            (None, Some(address)) => {
                let port = callout.value("port").and_then(|port| port.parse().ok()).unwrap_or(80);
                let address = self.backend_address(address, port, callout.line);
                let scheme = if callout.is("scheme", "https") { "https" } else { "http" };
                section.text("url", &format!("{scheme}://{address}"));
            }
            (None, None) => return Err("it asks nobody".into()),
        }
        callout.pass_over(&["returntype", "scheme", "comment"]);
        section.text("method", &callout.value("httpmethod").unwrap_or("GET").to_ascii_uppercase());
        if let Some(host) = callout.value("hostexpr") {
            section.text("host", &text(&of(host)?)?);
        }
        section.text(
            "path",
            &callout.value("urlstemexpr").map(|path| text(&of(path)?)).transpose()?.unwrap_or_else(|| "/".into()),
        );
        section.text("timeout", TIMEOUT);
        section.text("fail", "closed");
        self.notes.differs(
            callout.line,
            format!(
                "callout {}: without an answer a request is refused; there it passed: fail = \"open\"",
                callout.name
            ),
        );
        let allow = self.allows(callout, &name);
        let (parameters, headers) =
            (self.pairs(callout, "parameters", parameter), self.pairs(callout, "headers", text));
        let asked: Vec<String> = parameters.iter().chain(&headers).map(|(_, value)| value.clone()).collect();
        let mut sections = vec![section, allow];
        for (table, pairs) in [("query", parameters), ("headers", headers)] {
            let mut section = Section::table(&["authorizer", &name, table]);
            pairs.iter().for_each(|(name, value)| section.text(&key(name), value));
            sections.extend(Some(section).filter(|section| !section.is_empty()));
        }
        if self.drops.contains(&callout.name.to_ascii_lowercase()) {
            let mut section = Section::table(&["authorizer", &name, "deny"]);
            section.set("drop", "true");
            sections.push(section);
        }
        if let Some(seconds) = callout.value("cacheforsecs") {
            let mut section = Section::table(&["authorizer", &name, "cache"]);
            section.text("key", &asked.join(" "));
            section.text("ttl", &format!("{seconds}s"));
            sections.push(section);
        }
        self.sections.extend(sections);
        Ok(())
    }

    /// What lets a request pass: what a policy asks of the answer, or else what is usual.
    fn allows(&self, callout: &Object, ours: &str) -> Section {
        let mut section = Section::table(&["authorizer", ours, "allow"]);
        let found = self.site.of_kind("responder policy").find_map(|policy| {
            let super::policies::Rule::Condition(rule) = self.rule(policy) else { return None };
            let (_, refuses) = super::policies::refusal(&rule)?;
            let named = super::policies::passes(&refuses)?;
            named.0.eq_ignore_ascii_case(&callout.name).then_some(named)
        });
        match &found {
            Some((_, test, text)) => section.text(test, text),
            None => {
                section.comment(format!("no policy says which answer lets a request pass: {ALLOW:?} is taken"));
                section.text("body_equals", ALLOW);
                self.notes.differs(
                    callout.line,
                    format!("callout {}: no policy uses it, so no route asks it: write authorizer = {ours:?} on the routes that \
                             are to; an answer {ALLOW:?} is taken to let a request pass", callout.name),
                );
            }
        }
        let body = callout.value("resultexpr").map(expr::parse);
        if let Some(Ok(Expr::Chain(None, calls))) = &body
            && let Some(bytes) = calls.iter().find(|call| call.name == "BODY").and_then(|call| call.arguments.first())
            && let Some(bytes) = expr::number(bytes)
        {
            section.set("body_first", bytes.to_string());
        }
        section
    }

    /// `name(expression)`, each.
    fn pairs(
        &self,
        callout: &Object,
        option: &str,
        made: fn(&Expr) -> Result<String, String>,
    ) -> Vec<(String, String)> {
        let Some(option) = callout.option(option) else { return Vec::new() };
        let mut pairs: Vec<(String, String)> = Vec::new();
        for word in &option.values {
            let parts = word.split_once('(').and_then(|(name, rest)| Some((name, rest.strip_suffix(')')?)));
            let Some((name, inside)) = parts else {
                self.notes.left_out(option.line, format!("callout {}: {word:?} is no name(expression)", callout.name));
                continue;
            };
            match expr::parse(inside).and_then(|expr| made(&expr)) {
                Ok(_) if pairs.iter().any(|(known, _)| known == name) => {
                    self.notes.left_out(option.line, format!("callout {}: {name} stands there twice", callout.name));
                }
                Ok(value) => pairs.push((name.to_owned(), value)),
                Err(why) => self.notes.left_out(option.line, format!("callout {}: {name}: {why}", callout.name)),
            }
        }
        pairs
    }
}

/// An expression; what is none is the text itself.
fn of(text: &str) -> Result<Expr, String> {
    match expr::parse(text) {
        Ok(expr) => Ok(expr),
        Err(_) if !text.contains('"') => Ok(Expr::Text(text.to_owned())),
        Err(why) => Err(why),
    }
}
