//! A config that is written: sections in their order, each with where it comes from. Values are encoded by toml_edit.

use std::fmt::Write as _;

/// A section, `[service.web]` or `[[service.web.routes]]`.
#[derive(Debug, Clone, Default)]
pub(super) struct Section {
    header: String,
    comments: Vec<String>,
    entries: Vec<(String, String)>,
}

impl Section {
    /// `[service.web]`
    pub(super) fn table(path: &[&str]) -> Self {
        Self { header: format!("[{}]", dotted(path)), ..Self::default() }
    }

    /// `[[service.web.routes]]`
    pub(super) fn element(path: &[&str]) -> Self {
        Self { header: format!("[[{}]]", dotted(path)), ..Self::default() }
    }

    /// A line above it.
    pub(super) fn comment(&mut self, text: impl Into<String>) {
        self.comments.push(text.into());
    }

    /// A key and its value, which is TOML.
    pub(super) fn set(&mut self, key: &str, value: impl Into<String>) {
        self.entries.push((key.to_owned(), value.into()));
    }

    /// A key and a text.
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.set(key, quote(value));
    }

    /// Whether nothing stands in it.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// All of them, as a file.
pub(super) fn file(head: &[String], sections: &[Section], foot: &[String]) -> String {
    let mut out = String::new();
    let comments = |out: &mut String, lines: &[String]| {
        for line in lines {
            let _ = writeln!(out, "# {}", printable(line));
        }
    };
    comments(&mut out, head);
    for section in sections {
        out.push('\n');
        comments(&mut out, &section.comments);
        let _ = writeln!(out, "{}", section.header);
        for (key, value) in &section.entries {
            let _ = writeln!(out, "{key} = {value}");
        }
    }
    if !foot.is_empty() {
        out.push('\n');
        comments(&mut out, foot);
    }
    out
}

fn dotted(path: &[&str]) -> String {
    path.iter().map(|part| key(part)).collect::<Vec<_>>().join(".")
}

/// A text as TOML.
pub(super) fn quote(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

/// A list of texts as TOML.
pub(super) fn list<T: AsRef<str>>(texts: &[T]) -> String {
    toml_edit::Value::from_iter(texts.iter().map(|text| text.as_ref().to_owned())).to_string()
}

/// A key that may be any text.
pub(super) fn key(text: &str) -> String {
    toml_edit::Key::new(text).display_repr().into_owned()
}

/// A comment has no control characters.
fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
