//! What is wrong with a config: collected, never thrown at the first, and shown for people or for programs.

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether a config with this problem can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// No.
    Error,
    /// Yes, but somebody should look.
    Warning,
}

/// One problem, by byte range in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong, one line.
    pub message: String,
    /// The offending text.
    pub span: Range<usize>,
    /// Shown under the offending text.
    pub label: String,
    /// What to write instead.
    pub help: Option<String>,
    /// Another place that belongs to it.
    pub also: Option<(Range<usize>, String)>,
}

impl Problem {
    /// A problem that forbids the config.
    pub fn error(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), span, label: "here".into(), help: None, also: None }
    }

    /// A problem that is only told.
    pub fn warning(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// With what to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With a word under the offending text.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// With a second place.
    pub fn also(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.also = Some((span, label.into()));
        self
    }
}

/// A problem for programs, and for one line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemView {
    /// Error or warning.
    pub severity: Severity,
    /// File.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The offending text, its first line.
    pub text: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl std::fmt::Display for ProblemView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}:{}: {severity}: {}", self.file.display(), self.line, self.column, self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

/// All problems of one text.
#[derive(Debug, Clone)]
pub struct Problems {
    file: PathBuf,
    text: Arc<str>,
    list: Vec<Problem>,
}

/// More are counted, not kept: nobody reads the thousandth.
const MAX_PROBLEMS: usize = 200;

impl Problems {
    /// None yet.
    pub fn new(file: &Path, text: &str) -> Self {
        Self { file: file.to_owned(), text: text.into(), list: Vec::new() }
    }

    /// None yet, of the same text.
    pub(super) fn fresh(&self) -> Self {
        Self { file: self.file.clone(), text: self.text.clone(), list: Vec::new() }
    }

    /// Note all of another list.
    pub(super) fn append(&mut self, other: Self) {
        other.list.into_iter().for_each(|problem| self.push(problem));
    }

    /// Note one.
    pub fn push(&mut self, mut problem: Problem) {
        if self.list.len() >= MAX_PROBLEMS && problem.severity == Severity::Warning {
            return;
        }
        problem.span = self.within(problem.span);
        problem.also = problem.also.map(|(span, label)| (self.within(span), label));
        // The bound keeps the first errors; one error too many is still an error.
        if self.list.len() < 2 * MAX_PROBLEMS {
            self.list.push(problem);
        }
    }

    /// In the order of the text.
    pub fn sort(&mut self) {
        self.list.sort_by_key(|p| (p.span.start, p.span.end));
    }

    /// Whether the config cannot be used.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// How many of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|p| p.severity == severity).count()
    }

    /// As they stand.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// For programs.
    pub fn views(&self) -> Vec<ProblemView> {
        self.list.iter().map(|p| self.view(p)).collect()
    }

    /// For people: each with its line of the file and the place marked.
    pub fn render(&self, color: bool) -> String {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(110).with_links(false);
        let name = self.file.display().to_string();
        let mut out = String::new();
        for problem in &self.list {
            let mut labels =
                vec![LabeledSpan::new_primary_with_span(Some(problem.label.clone()), problem.span.clone())];
            if let Some((span, label)) = &problem.also {
                labels.push(LabeledSpan::new_with_span(Some(label.clone()), span.clone()));
            }
            let mut diagnostic = MietteDiagnostic::new(problem.message.clone()).with_labels(labels);
            diagnostic.severity = Some(match problem.severity {
                Severity::Error => miette::Severity::Error,
                Severity::Warning => miette::Severity::Warning,
            });
            diagnostic.help = problem.help.clone();
            let report = Report::new(diagnostic).with_source_code(NamedSource::new(&name, self.text.to_string()));
            if handler.render_report(&mut out, report.as_ref()).is_err() {
                out.push_str(&self.view(problem).to_string());
            }
            out.push('\n');
        }
        out
    }

    pub(super) fn view(&self, problem: &Problem) -> ProblemView {
        let before = &self.text[..problem.span.start];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        ProblemView {
            severity: problem.severity,
            file: self.file.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            text: self.text[problem.span.clone()].lines().next().unwrap_or_default().to_owned(),
            message: problem.message.clone(),
            help: problem.help.clone(),
        }
    }

    /// The range as far as it lies in the text, on character boundaries: a report must never panic.
    fn within(&self, span: Range<usize>) -> Range<usize> {
        let floor = |mut at: usize| {
            at = at.min(self.text.len());
            while !self.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = floor(span.start);
        start..floor(span.end).max(start)
    }
}

/// One line a problem.
impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, view) in self.views().iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{view}")?;
        }
        Ok(())
    }
}

/// The candidate that was most likely meant.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let bound = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let distance = strsim::damerau_levenshtein(word, candidate);
            let begins = word.len() >= 3 && candidate.starts_with(word);
            (distance <= bound || begins).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
