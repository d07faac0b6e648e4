//! One table of the text, read key by key. Which keys are known is what was asked for, so the list of a
//! suggestion cannot differ from what is read.

use super::problem::{Problem, Problems, nearest};
use super::scalar::{self, Wrong};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;
use toml_span::value::{Table, Value, ValueInner};

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// A table of the config.
pub(super) struct Section<'v> {
    /// As people name it: `[pool.web.tls]`.
    pub(super) title: String,
    /// Its name in the text.
    pub(super) span: Range<usize>,
    table: Option<&'v Table<'v>>,
    known: Vec<&'static str>,
    missing: Vec<(&'static str, Problem)>,
}

impl<'v> Section<'v> {
    /// The table, or the problem that it is none.
    pub(super) fn of(
        problems: &mut Problems,
        title: String,
        span: Range<usize>,
        value: &'v Value<'v>,
    ) -> Option<Section<'v>> {
        match value.as_ref() {
            ValueInner::Table(table) => {
                Some(Section { title, span, table: Some(table), known: Vec::new(), missing: Vec::new() })
            }
            other => {
                wrong_type(problems, value, &title, "a table", other);
                None
            }
        }
    }

    /// A table that was left out: every key has its default.
    pub(super) fn absent(title: &str) -> Section<'v> {
        Section { title: title.to_owned(), span: 0..0, table: None, known: Vec::new(), missing: Vec::new() }
    }

    /// The same, where its absence shows.
    pub(super) fn at(self, span: Range<usize>) -> Section<'v> {
        Section { span, ..self }
    }

    /// Where the value of a key stands, or else the section.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        self.table.and_then(|t| t.get(key)).map_or(self.span.clone(), |v| v.span.into())
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|t| t.contains_key(key))
    }

    /// Whether the key holds a list of nothing.
    pub(super) fn is_empty_list(&self, key: &str) -> bool {
        self.table.and_then(|t| t.get(key)?.as_array()).is_some_and(|list| list.is_empty())
    }

    /// Whether the key holds a table.
    pub(super) fn is_table(&self, key: &str) -> bool {
        self.table.is_some_and(|t| t.get(key).is_some_and(|value| value.as_table().is_some()))
    }

    /// The text of a key, however it is read elsewhere.
    pub(super) fn text_of(&self, key: &str) -> Option<&'v str> {
        self.table?.get(key)?.as_str()
    }

    /// Every key with its value, in the order of the text: for tables whose keys are the operator's own words.
    pub(super) fn entries(&self) -> Vec<(At<&'v str>, &'v Value<'v>)> {
        let entries = self.table.into_iter().flatten();
        let mut entries: Vec<_> =
            entries.map(|(key, value)| (At { value: &*key.name, span: key.span.into() }, value)).collect();
        entries.sort_by_key(|(name, _): &(At<&str>, _)| name.span.start);
        entries
    }

    /// The value as it is.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'v Value<'v>> {
        self.known.push(key);
        self.table?.get(key)
    }

    /// Note that a key is missing; told by [`Self::finish`], unless an unknown key was meant to be it.
    pub(super) fn missing(&mut self, key: &'static str, help: &str) {
        let message = format!("{} lacks the key `{key}`", self.title);
        self.missing.push((key, Problem::error(self.span.clone(), message).help(help)));
    }

    /// A string.
    pub(super) fn string(&mut self, problems: &mut Problems, key: &'static str) -> Option<At<&'v str>> {
        let value = self.value(key)?;
        string(problems, value, &self.path(key))
    }

    /// A string that means something.
    pub(super) fn parsed<T>(
        &mut self,
        problems: &mut Problems,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<At<T>> {
        let value = self.value(key)?;
        parsed(problems, value, &self.path(key), parse)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        problems: &mut Problems,
        key: &'static str,
        words: &[(&str, T)],
    ) -> Option<T> {
        self.parsed(problems, key, |text| {
            words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning).ok_or_else(|| {
                let all = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
                Wrong::new(
                    format!("\"{text}\" is none of {all}"),
                    match nearest(&text.to_lowercase(), words.iter().map(|(word, _)| *word)) {
                        Some(word) => format!("did you mean \"{word}\"?"),
                        None => format!("write one of {all}"),
                    },
                )
            })
        })
        .map(|at| at.value)
    }

    /// A whole number within bounds.
    pub(super) fn integer(
        &mut self,
        problems: &mut Problems,
        key: &'static str,
        bounds: RangeInclusive<u32>,
    ) -> Option<u32> {
        let value = self.value(key)?;
        integer(problems, value, &self.path(key), bounds)
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, problems: &mut Problems, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        match value.as_ref() {
            ValueInner::Boolean(b) => Some(*b),
            other => {
                wrong_type(problems, value, &self.path(key), "true or false", other);
                None
            }
        }
    }

    /// A time such as `"5s"` within bounds.
    pub(super) fn duration(
        &mut self,
        problems: &mut Problems,
        key: &'static str,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let value = self.value(key)?;
        if let ValueInner::Integer(n) = value.as_ref() {
            problems.push(
                Problem::error(value.span.into(), format!("`{}` needs a unit", self.path(key)))
                    .help(format!("write \"{n}s\" for seconds; the units are ms, s, m, h and d")),
            );
            return None;
        }
        parsed(problems, value, &self.path(key), |text| scalar::duration(text, &bounds)).map(|at| at.value)
    }

    /// A number of bytes within bounds: `"16KiB"`, or an integer.
    pub(super) fn size(
        &mut self,
        problems: &mut Problems,
        key: &'static str,
        bounds: RangeInclusive<u32>,
    ) -> Option<u32> {
        let value = self.value(key)?;
        let path = self.path(key);
        if matches!(value.as_ref(), ValueInner::Integer(_)) {
            return integer(problems, value, &path, bounds);
        }
        let size = parsed(problems, value, &path, scalar::size)?;
        if bounds.contains(&size.value) {
            return Some(size.value);
        }
        problems.push(
            Problem::error(size.span, format!("`{path}` is out of bounds: {} bytes", size.value)).help(format!(
                "write a size from {} to {} bytes",
                bounds.start(),
                bounds.end()
            )),
        );
        None
    }

    /// A string, or a list of them.
    pub(super) fn one_or_many(&mut self, problems: &mut Problems, key: &'static str) -> Option<Vec<At<&'v str>>> {
        let value = self.value(key)?;
        let path = self.path(key);
        match value.as_ref() {
            ValueInner::Array(list) => Some(list.iter().filter_map(|one| string(problems, one, &path)).collect()),
            _ => string(problems, value, &path).map(|at| vec![at]),
        }
    }

    /// A list; each element is read by the caller.
    pub(super) fn list(&mut self, problems: &mut Problems, key: &'static str) -> Option<&'v [Value<'v>]> {
        let value = self.value(key)?;
        match value.as_ref() {
            ValueInner::Array(list) => Some(list),
            other => {
                wrong_type(problems, value, &self.path(key), "a list", other);
                None
            }
        }
    }

    /// A list of strings that mean something; those that do not are told and left out.
    pub(super) fn parsed_list<T>(
        &mut self,
        problems: &mut Problems,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<Vec<At<T>>> {
        let path = self.path(key);
        let list = self.list(problems, key)?;
        Some(list.iter().filter_map(|value| parsed(problems, value, &path, &parse)).collect())
    }

    /// A table within.
    pub(super) fn section(&mut self, problems: &mut Problems, key: &'static str) -> Option<Section<'v>> {
        self.known.push(key);
        let (name, value) = self.table?.get_key_value(key)?;
        let title = match self.title.strip_suffix(']') {
            Some(outer) => format!("{outer}.{key}]"),
            None => format!("[{key}]"),
        };
        Section::of(problems, title, name.span.into(), value)
    }

    /// The tables within, by the operator's names, in the order of the text.
    pub(super) fn named(&mut self, problems: &mut Problems, key: &'static str) -> Vec<(At<String>, Section<'v>)> {
        let Some(outer) = self.section(problems, key) else { return Vec::new() };
        let mut entries: Vec<_> = outer.table.into_iter().flatten().collect();
        entries.sort_by_key(|(name, _)| name.span.start);
        let mut sections = Vec::new();
        for (name, value) in entries {
            let span: Range<usize> = name.span.into();
            if let Err(wrong) = scalar::name(&name.name) {
                problems.push(wrong.at(span.clone()));
            }
            if let Some(section) = Section::of(problems, format!("[{key}.{}]", name.name), span.clone(), value) {
                sections.push((At { value: name.name.to_string(), span }, section));
            }
        }
        sections
    }

    /// Every key has been asked for: what is left is unknown.
    pub(super) fn finish(mut self, problems: &mut Problems) {
        for key in self.table.into_iter().flat_map(|t| t.keys()) {
            if self.known.contains(&key.name.as_ref()) {
                continue;
            }
            let place = if self.title.is_empty() { String::new() } else { format!(" in {}", self.title) };
            let known = self.known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
            let help = match nearest(&key.name.to_lowercase(), self.known.iter().copied()) {
                Some(meant) => {
                    self.missing.retain(|(missing, _)| *missing != meant);
                    format!("did you mean `{meant}`? Known here: {known}")
                }
                None => format!("known here: {known}"),
            };
            problems.push(
                Problem::error(key.span.into(), format!("unknown key `{}`{place}", key.name))
                    .label("unknown key")
                    .help(help),
            );
        }
        for (_, problem) in self.missing {
            problems.push(problem);
        }
    }

    fn path(&self, key: &str) -> String {
        if self.title.is_empty() { key.to_owned() } else { format!("{} {key}", self.title) }
    }
}

/// A string, or the problem that it is none.
pub(super) fn string<'v>(problems: &mut Problems, value: &'v Value<'v>, path: &str) -> Option<At<&'v str>> {
    match value.as_ref() {
        ValueInner::String(text) => Some(At { value: text, span: value.span.into() }),
        other => {
            wrong_type(problems, value, path, "a string", other);
            None
        }
    }
}

/// A string that means something.
pub(super) fn parsed<'v, T>(
    problems: &mut Problems,
    value: &'v Value<'v>,
    path: &str,
    parse: impl FnOnce(&str) -> Result<T, Wrong>,
) -> Option<At<T>> {
    let text = string(problems, value, path)?;
    match parse(text.value) {
        Ok(value) => Some(At { value, span: text.span }),
        Err(wrong) => {
            problems.push(wrong.at(text.span));
            None
        }
    }
}

/// A whole number within bounds.
pub(super) fn integer(
    problems: &mut Problems,
    value: &Value<'_>,
    path: &str,
    bounds: RangeInclusive<u32>,
) -> Option<u32> {
    match value.as_ref() {
        ValueInner::Integer(n) => match u32::try_from(*n).ok().filter(|n| bounds.contains(n)) {
            Some(n) => Some(n),
            None => {
                problems.push(
                    Problem::error(value.span.into(), format!("`{path}` is out of bounds: {n}")).help(format!(
                        "write a number from {} to {}",
                        bounds.start(),
                        bounds.end()
                    )),
                );
                None
            }
        },
        other => {
            wrong_type(problems, value, path, "a whole number", other);
            None
        }
    }
}

fn wrong_type(problems: &mut Problems, value: &Value<'_>, path: &str, wanted: &str, found: &ValueInner<'_>) {
    problems.push(
        Problem::error(value.span.into(), format!("`{path}` must be {wanted}, and is {}", article(found.type_str())))
            .label(format!("expected {wanted}"))
            .help(match (wanted, found) {
                ("a string", ValueInner::Integer(n)) => format!("write \"{n}\" in quotes"),
                ("a list", ValueInner::String(s)) => format!("write [\"{s}\"]"),
                ("a whole number", ValueInner::String(s)) if s.parse::<u32>().is_ok() => {
                    format!("write {s} without quotes")
                }
                ("true or false", ValueInner::String(s)) if *s == "true" || *s == "false" => {
                    format!("write {s} without quotes")
                }
                _ => format!("give it {wanted}"),
            }),
    );
}

fn article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {kind}")
}
