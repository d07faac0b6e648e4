//! Policies: what they ask, and what responders and rewrites do.

use super::condition::{Condition, all, condition, not};
use super::expr::{self, Expr};
use super::services::Route;
use super::site::{Bind, Object};
use super::text::text;
use super::{Import, by_priority};
use crate::import::toml::{key, list, quote};

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Pool(String),
    Redirect { to: String, code: u16 },
    Answer { status: u16, body: String },
}

/// When a policy holds.
pub(super) enum Rule {
    Condition(Condition),
    /// It cannot be said here, and why.
    Unknown(String),
}

impl<'s> Import<'s> {
    /// The rule of a policy.
    pub(super) fn rule(&self, policy: &Object) -> Rule {
        let words = policy.option("rule").map(|rule| rule.values.join(" "));
        let words = words.or_else(|| policy.words.first().cloned());
        let Some(text) = words.or_else(|| policy.value("url").map(url)) else {
            return Rule::Unknown("it has no rule".into());
        };
        let upper = text.trim_start().to_ascii_uppercase();
        if ["REQ.HTTP", "REQ.IP", "REQ.TCP", "REQ.SSL"].iter().any(|classic| upper.starts_with(classic)) {
            return Rule::Unknown(format!("a classic expression, write it anew: {text}"));
        }
        match expr::parse(&text).and_then(|expr| condition(&expr)) {
            Ok(condition) => Rule::Condition(condition),
            Err(why) => Rule::Unknown(format!("{why}, in {text}")),
        }
    }

    /// What is bound to a vserver of a kind of policy, the lowest priority first.
    fn bound(&self, vserver: &'s Object, kind: &'static str) -> Vec<(&'s Object, &'s Bind)> {
        // Policies of other kinds are bound in the same way; theirs are not touched.
        let ours = |bind: &&'s Bind| bind.names("policyname").is_some_and(|name| self.site.get(kind, name).is_some());
        let bound: Vec<_> = by_priority(vserver.binds.iter().filter(ours))
            .into_iter()
            .filter_map(|bind| Some((self.site.added(kind, bind.value("policyname")?)?, bind)))
            .collect();
        for (_, bind) in &bound {
            for option in ["gotopriorityexpression", "type", "invoke"] {
                bind.value(option);
            }
        }
        bound
    }

    /// Responder policies that answer in place of a backend; and for those that ask a callout when they do, and the
    /// authorizer.
    pub(super) fn responders(&mut self, vserver: &'s Object, callouts: &mut Vec<(Condition, String)>) -> Vec<Route> {
        let mut routes = Vec::new();
        for (policy, _) in self.bound(vserver, "responder policy") {
            let rule = match self.rule(policy) {
                Rule::Condition(rule) => rule,
                Rule::Unknown(why) => {
                    self.notes.left_out(policy.line, format!("responder policy {}: {why}", policy.name));
                    continue;
                }
            };
            if asks(&rule) {
                self.asked(policy, &rule, callouts);
                continue;
            }
            let name = self.name("route", &policy.name, policy.line);
            match self.answer(policy) {
                Ok(Some(action)) => routes.push(Route::new(policy.line, name, rule, action)),
                Ok(None) => {}
                Err(why) => self.notes.left_out(policy.line, format!("responder policy {}: {why}", policy.name)),
            }
        }
        routes
    }

    /// A policy that refuses what a callout does not let pass.
    fn asked(&mut self, policy: &'s Object, rule: &Condition, callouts: &mut Vec<(Condition, String)>) {
        let parts = refusal(rule).and_then(|(when, refuses)| Some((when, passes(&refuses)?)));
        let known = |name: &str| {
            let mut all = self.site.of_kind("policy httpCallout");
            all.find(|callout| callout.added && callout.name.eq_ignore_ascii_case(name))
        };
        let Some((when, callout)) = parts.and_then(|(when, (name, ..))| Some((when, known(&name)?))) else {
            let help = "write authorizer = \"NAME\" on the routes that are to ask, and [authorizer.NAME.allow]";
            return self.notes.left_out(policy.line, format!("responder policy {}: {help}", policy.name));
        };
        let action = policy.words.get(1).map(String::as_str).or_else(|| policy.value("action")).unwrap_or_default();
        match action.to_ascii_uppercase().as_str() {
            "DROP" | "RESET" => drop(self.drops.insert(callout.name.to_ascii_lowercase())),
            _ => {
                self.site.added("responder action", action);
                self.notes.differs(policy.line, format!("responder policy {}: a refusal is 403", policy.name));
            }
        }
        let name = self.name("authorizer", &callout.name, callout.line);
        callouts.push((when, name));
    }

    fn answer(&self, policy: &'s Object) -> Result<Option<Action>, String> {
        let name = policy.words.get(1).map(String::as_str).or_else(|| policy.value("action")).unwrap_or("NOOP");
        match name.to_ascii_uppercase().as_str() {
            "NOOP" => return Ok(None),
            "DROP" | "RESET" => {
                self.notes.differs(policy.line, format!("{name} is an answer here: 403"));
                return Ok(Some(Action::Answer { status: 403, body: String::new() }));
            }
            _ => {}
        }
        let action = self.site.added("responder action", name).ok_or_else(|| format!("there is no action {name}"))?;
        let target = action.words.get(1).map(String::as_str).unwrap_or_default();
        let target = expr::parse(target).unwrap_or_else(|_| Expr::Text(target.to_owned()));
        match action.words.first().map(|kind| kind.to_ascii_lowercase()).as_deref() {
            Some("redirect") => {
                let code = action.value("responsestatuscode").and_then(|code| code.parse().ok()).unwrap_or(302);
                Ok(Some(Action::Redirect { to: text(&target)?, code }))
            }
            Some("respondwith") => answered(&target),
            other => Err(format!("an action {} has no counterpart", other.unwrap_or("of no kind"))),
        }
    }

    /// Rewrite policies that insert and delete headers, for all requests.
    pub(super) fn rewrites(&mut self, vserver: &'s Object, routes: &mut [Route]) {
        let (mut sets, mut removes): ([Vec<String>; 2], [Vec<String>; 2]) = Default::default();
        for (policy, bind) in self.bound(vserver, "rewrite policy") {
            let lost = |why: &str| self.notes.left_out(policy.line, format!("rewrite policy {}: {why}", policy.name));
            let Rule::Condition(Condition::Always) = self.rule(policy) else {
                lost("only those of all requests are carried over: write request_headers on the routes that it is for");
                continue;
            };
            let name = policy.words.get(1).map(String::as_str).unwrap_or_default();
            let Some(action) = self.site.added("rewrite action", name) else {
                lost("there is no such action");
                continue;
            };
            let side = usize::from(bind.value("type").is_some_and(|side| side.eq_ignore_ascii_case("RESPONSE")));
            let [kind, header, rest @ ..] = &action.words[..] else {
                lost("its action is not whole");
                continue;
            };
            match (kind.to_ascii_lowercase().as_str(), rest.first()) {
                ("insert_http_header", Some(value)) => match expr::parse(value).and_then(|expr| text(&expr)) {
                    Ok(value) => sets[side].push(format!("{} = {}", key(header), quote(&value))),
                    Err(why) => lost(&why),
                },
                ("delete_http_header", _) => removes[side].push(header.clone()),
                _ => lost("only headers that are inserted or deleted are carried over"),
            }
        }
        let tables =
            [("request_headers.set", "request_headers.remove"), ("response_headers.set", "response_headers.remove")];
        for route in routes.iter_mut() {
            let to_backends = matches!(route.action, Action::Pool(_));
            // An answer of the edge's own has no request that goes on.
            for (side, (set, remove)) in tables.into_iter().enumerate().filter(|(side, _)| to_backends || *side == 1) {
                if !removes[side].is_empty() {
                    route.changes.push((remove, list(&removes[side])));
                }
                if !sets[side].is_empty() {
                    route.changes.push((set, format!("{{ {} }}", sets[side].join(", "))));
                }
            }
        }
    }
}

/// `-url /a/*` of a cs policy.
fn url(pattern: &str) -> String {
    match pattern.strip_suffix('*') {
        Some(prefix) => format!("HTTP.REQ.URL.STARTSWITH(\"{prefix}\")"),
        None => format!("HTTP.REQ.URL.EQ(\"{pattern}\")"),
    }
}

/// Whether a callout decides.
fn asks(condition: &Condition) -> bool {
    match condition {
        Condition::Callout(..) => true,
        Condition::All(list) | Condition::Any(list) => list.iter().any(asks),
        Condition::Not(inner) => asks(inner),
        _ => false,
    }
}

/// A whole answer, `HTTP/1.1 403 Forbidden\r\n\r\nbody`.
fn answered(expr: &Expr) -> Result<Option<Action>, String> {
    let Expr::Text(text) = expr else {
        return Err("an answer that is made from the request has no counterpart".into());
    };
    let text = text.replace("\\r", "\r").replace("\\n", "\n").replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse::<u16>().ok());
    match status.filter(|status| (200..=599).contains(status)) {
        Some(status) => Ok(Some(Action::Answer { status, body: body.to_owned() })),
        None => Err("its answer has no status".into()),
    }
}

/// A condition of a responder with a callout, taken apart: what else must hold, and what the answer must be for the request
/// to be refused.
pub(super) fn refusal(condition: &Condition) -> Option<(Condition, Condition)> {
    let parts = match condition {
        Condition::All(parts) => parts.clone(),
        one => vec![one.clone()],
    };
    let (asking, rest): (Vec<Condition>, Vec<Condition>) = parts.into_iter().partition(asks);
    match &asking[..] {
        [one @ (Condition::Callout(..) | Condition::Not(_))] => Some((all(rest), one.clone())),
        _ => None,
    }
}

/// The answer that lets a request pass, when this one refuses it.
pub(super) fn passes(refuses: &Condition) -> Option<(String, &'static str, String)> {
    match not(refuses.clone()) {
        Condition::Callout(name, test, text) => Some((name, test, text)),
        _ => None,
    }
}
