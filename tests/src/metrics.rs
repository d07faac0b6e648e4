//! Prometheus text, read back.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// One scrape.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    samples: Vec<Sample>,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name, with `_bucket`, `_sum`, `_count` for histograms.
    pub name: String,
    /// By name.
    pub labels: BTreeMap<String, String>,
    /// Value.
    pub value: f64,
}

impl Scrape {
    /// Read the text exposition format (version 0.0.4).
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| sample(line).with_context(|| format!("metrics line {line:?}")));
        Ok(Self { samples: samples.collect::<Result<_>>()? })
    }

    /// All samples.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Samples of a name whose labels contain all of `labels`.
    pub fn matching(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).map(String::as_str) == Some(*value))
        })
    }

    /// Their sum; 0 when there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        // Not sum(): that of nothing is -0.
        self.matching(name, labels).fold(0.0, |sum, sample| sum + sample.value)
    }

    /// Counters of `before` that are lower here or gone: there must be none.
    pub fn fallen(&self, before: &Scrape) -> Vec<String> {
        let counters = before.samples.iter().filter(|sample| {
            ["_total", "_bucket", "_count", "_sum"].iter().any(|ending| sample.name.ends_with(ending))
        });
        let fell = counters.filter(|old| {
            let now = self.samples.iter().find(|new| new.name == old.name && new.labels == old.labels);
            now.is_none_or(|new| new.value < old.value)
        });
        fell.map(|old| format!("{} {:?} was {}", old.name, old.labels, old.value)).collect()
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (head, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, rest)) = head.split_once('{') else {
        return Some(Sample { name: head.into(), labels: BTreeMap::new(), value });
    };
    let mut labels = BTreeMap::new();
    let mut rest = rest.strip_suffix('}')?;
    while !rest.is_empty() {
        let (key, tail) = rest.split_once("=\"")?;
        let end = closing_quote(tail)?;
        labels.insert(key.trim_start_matches(',').to_string(), unescape(&tail[..end]));
        rest = &tail[end + 1..];
    }
    Some(Sample { name: name.into(), labels, value })
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes.then_some(at)
    })
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => plain.extend(chars.next().map(|next| if next == 'n' { '\n' } else { next })),
            (c, false) => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_with_quotes_braces_and_none_are_read() {
        let text = "# HELP a b\na_total{x=\"1\",y=\"q\\\"}{,\"} 3\nb 4.5\na_total{x=\"2\",y=\"\"} 1\n";
        let scrape = Scrape::parse(text).unwrap();
        assert_eq!(scrape.sum("a_total", &[]), 4.0);
        assert_eq!(scrape.sum("a_total", &[("y", "q\"}{,")]), 3.0);
        assert_eq!(scrape.sum("b", &[]), 4.5);
        assert!(Scrape::parse("not a metric line\n").is_err());
    }

    #[test]
    fn a_counter_that_fell_or_went_is_named() {
        let before = Scrape::parse("a_total 3\nb_total 1\ng 9\n").unwrap();
        let after = Scrape::parse("a_total 2\ng 1\n").unwrap();
        assert_eq!(after.fallen(&before).len(), 2);
    }
}
