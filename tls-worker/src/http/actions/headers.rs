//! Changes of headers, with variables. A value that no header can have is left out and counted; a client's own of that name
//! goes all the same.

use crate::api::{HeaderAction, HeaderChange, changeable_header};
use crate::vars::{Lookup, Template};
use http::{HeaderMap, HeaderName, HeaderValue};

/// A [`HeaderAction`], ready.
#[derive(Debug)]
pub(in crate::http) struct Change {
    name: HeaderName,
    what: What,
}

#[derive(Debug)]
enum What {
    Set(Value),
    Add(Value),
    Remove,
}

#[derive(Debug)]
enum Value {
    Fixed(HeaderValue),
    Text(Template),
}

/// Changes of requests' headers, or of answers'.
pub(super) fn changes(actions: &[HeaderAction], of_answer: bool) -> Result<Box<[Change]>, String> {
    actions.iter().map(|action| Change::new(action, of_answer)).collect()
}

impl Change {
    fn new(action: &HeaderAction, of_answer: bool) -> Result<Change, String> {
        let name = HeaderName::try_from(&action.name).map_err(|_| format!("{:?} is no header name", action.name))?;
        changeable_header(name.as_str()).map_err(|why| format!("header {name} cannot be changed: {why}"))?;
        let value = |text: &str| {
            let template = Template::parse(text).map_err(|error| format!("header {name}: {error}"))?;
            if template.uses_response() && !of_answer {
                return Err(format!("header {name}: it asks for the answer, which is not there yet"));
            }
            match template.constant() {
                Some(text) => HeaderValue::from_str(text)
                    .map(Value::Fixed)
                    .map_err(|_| format!("header {name}: {text:?} is no value of a header")),
                None => Ok(Value::Text(template)),
            }
        };
        let what = match &action.change {
            HeaderChange::Set(text) => What::Set(value(text)?),
            HeaderChange::Add(text) => What::Add(value(text)?),
            HeaderChange::Remove => What::Remove,
        };
        Ok(Change { name, what })
    }

    pub(super) fn has_variables(&self) -> bool {
        matches!(&self.what, What::Set(Value::Text(_)) | What::Add(Value::Text(_)))
    }
}

/// Changes with their values, which were asked for while the header was still whole.
pub(in crate::http) struct Filled<'c> {
    changes: &'c [Change],
    /// One for each change that has variables, in order.
    values: Vec<Option<HeaderValue>>,
    /// Values that no header can have.
    pub(in crate::http) invalid: u64,
}

/// The changes for one message.
pub(in crate::http) fn fill<'c>(changes: &'c [Change], asked: &dyn Lookup) -> Filled<'c> {
    let mut filled = Filled { changes, values: Vec::new(), invalid: 0 };
    for change in changes {
        if let What::Set(Value::Text(text)) | What::Add(Value::Text(text)) = &change.what {
            let value = text.value(asked).map(|value| HeaderValue::from_bytes(&value));
            filled.invalid += u64::from(matches!(value, Some(Err(_))));
            filled.values.push(value.and_then(Result::ok));
        }
    }
    filled
}

/// The same of changes without variables.
pub(in crate::http) fn constant(changes: &[Change]) -> Filled<'_> {
    Filled { changes, values: Vec::new(), invalid: 0 }
}

impl Filled<'_> {
    pub(in crate::http) fn apply(self, headers: &mut HeaderMap) {
        let mut values = self.values.into_iter();
        for Change { name, what } in self.changes {
            let (set, value) = match what {
                What::Remove => {
                    headers.remove(name);
                    continue;
                }
                What::Set(value) => (true, value),
                What::Add(value) => (false, value),
            };
            let value = match value {
                Value::Fixed(value) => Some(value.clone()),
                Value::Text(_) => values.next().flatten(),
            };
            match (set, value) {
                (true, Some(value)) => drop(headers.insert(name, value)),
                (true, None) => drop(headers.remove(name)),
                // A message of so many headers is at its bound: one more is left out.
                (false, Some(value)) => drop(headers.try_append(name, value)),
                (false, None) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vars::Source;
    use crate::vars::tests::Known;

    fn action(name: &str, change: HeaderChange) -> HeaderAction {
        HeaderAction { name: name.into(), change }
    }

    #[test]
    fn headers_are_set_added_and_removed_in_order() {
        let text = |text: &str| text.to_owned();
        let list = [
            action("x-gone", HeaderChange::Remove),
            action("x-ip", HeaderChange::Set(text("${client.ip}"))),
            action("x-many", HeaderChange::Add(text("2"))),
            action("x-undefined", HeaderChange::Set(text("${request.query}"))),
            action("x-broken", HeaderChange::Set(text("a${query('q')}"))),
            action("x-none", HeaderChange::Add(text("${request.query}"))),
        ];
        let changes = changes(&list, false).unwrap();
        let known =
            Known::of(&[(Source::ClientIp, "192.0.2.1"), (Source::QueryParameter("q".into()), "b\r\nx-evil: 1")]);
        let mut headers = HeaderMap::new();
        for name in ["x-gone", "x-ip", "x-many", "x-undefined", "x-broken"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        let filled = fill(&changes, &known);
        assert_eq!(filled.invalid, 1);
        filled.apply(&mut headers);
        let mut left: Vec<_> = headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(left, ["x-ip: 192.0.2.1", "x-many: 1", "x-many: 2"]);
    }

    #[test]
    fn what_is_not_the_configs_to_change_is_refused() {
        for name in
            ["host", "Content-Length", "transfer-encoding", "connection", "proxy-authorization", "x-forwarded-for"]
        {
            let error = changes(&[action(name, HeaderChange::Remove)], true).unwrap_err();
            assert!(error.contains("cannot be changed"), "{name}: {error}");
        }
        for (name, value, of_answer) in
            [("a b", "x", false), ("a", "x\ny", false), ("a", "${nonsense}", false), ("a", "${response.status}", false)]
        {
            assert!(changes(&[action(name, HeaderChange::Set(value.into()))], of_answer).is_err(), "{name} {value}");
        }
        assert!(changes(&[action("a", HeaderChange::Set("${response.status}".into()))], true).is_ok());
    }
}
