//! What a line says, ready to be said: literal bytes, and slots for values.

use super::value;
use crate::api::{AccessLog, LogFormat};
use crate::vars::{Lookup, Moment, Source, Template};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

const COMMON: &str = "${client.ip} - - [${time.clf}] \"${request.method} ${request.uri} ${request.protocol}\" \
                      ${response.status} ${response.bytes}";
const COMBINED: &str = " \"${header('referer')}\" \"${header('user-agent')}\"";

/// A log, ready.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: Arc<str>,
    pub(crate) sample: u32,
    pub(crate) errors_always: bool,
    pub(crate) buffer: usize,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Literal(Box<[u8]>),
    Slot { value: Template, moment: Moment, how: How },
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Within the quotes of a JSON string.
    Json,
    /// A JSON value by itself: a string, or null.
    JsonString,
    /// A number as it is, or null.
    JsonNumber,
    /// As Apache writes it, a dash for what there is not.
    Apache,
}

/// What the request says: values of its slots, in their order.
pub(crate) struct Start(Vec<Option<Box<[u8]>>>);

/// A line with holes.
pub(crate) struct Unfinished {
    line: Vec<u8>,
    holes: Vec<(usize, Source, How)>,
}

/// What is known at the end.
pub(crate) struct End {
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    pub(crate) complete: bool,
}

impl Plan {
    /// The error says what is wrong in it.
    pub(crate) fn new(log: &AccessLog) -> Result<Self, String> {
        let mut plan = Plan {
            name: log.name.as_str().into(),
            sample: log.sample.max(1),
            errors_always: log.errors_always,
            buffer: log.buffer as usize,
            parts: Vec::new(),
        };
        match &log.format {
            LogFormat::Common => plan.text(COMMON, How::Apache)?,
            LogFormat::Combined => {
                plan.text(COMMON, How::Apache)?;
                plan.text(COMBINED, How::Apache)?;
            }
            LogFormat::Text(text) => plan.text(text, How::Apache)?,
            LogFormat::Json(fields) => plan.object(fields)?,
        }
        Ok(plan)
    }

    fn object(&mut self, fields: &[(String, String)]) -> Result<(), String> {
        for (place, (key, text)) in fields.iter().enumerate() {
            let mut name = if place == 0 { b"{\"".to_vec() } else { b",\"".to_vec() };
            value::json(&mut name, key.as_bytes());
            name.extend(b"\":");
            self.literal(&name);
            let template = Template::parse(text).map_err(|error| format!("{key}: {}", error.problem))?;
            if template.pieces().count() == 1 && template.constant().is_none() {
                let number = template.source().is_some_and(Source::is_number);
                self.slot(template, if number { How::JsonNumber } else { How::JsonString })?;
            } else {
                self.literal(b"\"");
                self.text(text, How::Json)?;
                self.literal(b"\"");
            }
        }
        self.literal(if fields.is_empty() { b"{}" } else { b"}" });
        Ok(())
    }

    fn text(&mut self, text: &str, how: How) -> Result<(), String> {
        let template = Template::parse(text).map_err(|error| error.problem)?;
        for piece in template.pieces() {
            match piece.constant() {
                Some(text) if how == How::Json => {
                    let mut escaped = Vec::new();
                    value::json(&mut escaped, text.as_bytes());
                    self.literal(&escaped);
                }
                // A line is one line, whatever is written in the config.
                Some(text) => self.literal(text.replace(['\n', '\r'], " ").as_bytes()),
                None => self.slot(piece, how)?,
            }
        }
        Ok(())
    }

    fn slot(&mut self, value: Template, how: How) -> Result<(), String> {
        let moment = value.moment().ok_or("a field asks for the request's header and for the answer at once")?;
        self.parts.push(Part::Slot { value, moment, how });
        Ok(())
    }

    fn literal(&mut self, bytes: &[u8]) {
        self.parts.push(Part::Literal(bytes.into()));
    }

    /// Keep what the request says.
    pub(crate) fn begin(&self, request: &dyn Lookup) -> Start {
        let of_request = |part: &Part| match part {
            Part::Slot { value, moment: Moment::Request, .. } => {
                Some(value.value(request).map(|value| value[..value.len().min(value::MAX_VALUE)].into()))
            }
            _ => None,
        };
        Start(self.parts.iter().filter_map(of_request).collect())
    }

    /// The line, but for its end.
    pub(crate) fn answered(&self, start: Start, answer: &dyn Lookup) -> Unfinished {
        let mut said = start.0.into_iter();
        let mut unfinished = Unfinished { line: Vec::with_capacity(512), holes: Vec::new() };
        for part in &self.parts {
            match part {
                Part::Literal(bytes) => unfinished.line.extend_from_slice(bytes),
                Part::Slot { moment: Moment::Request, how, .. } => {
                    write(&mut unfinished.line, said.next().flatten().as_deref(), *how);
                }
                Part::Slot { value, moment: Moment::Answer, how } => {
                    write(&mut unfinished.line, value.value(answer).as_deref(), *how);
                }
                Part::Slot { value, how, .. } => {
                    let place = unfinished.line.len();
                    unfinished.holes.extend(value.source().map(|source| (place, source.clone(), *how)));
                }
            }
        }
        unfinished
    }
}

impl Unfinished {
    /// The line.
    pub(crate) fn finish(self, end: &End) -> Vec<u8> {
        if self.holes.is_empty() {
            return self.line;
        }
        let mut line = Vec::with_capacity(self.line.len() + 32);
        let (mut from, mut text) = (0, Vec::new());
        for (at, source, how) in self.holes {
            line.extend_from_slice(&self.line[from..at]);
            from = at;
            text.clear();
            // Memory takes what is written.
            let _ = match source {
                Source::ResponseBytes => write!(text, "{}", end.bytes),
                Source::Seconds => write!(text, "{:.6}", end.took.as_secs_f64()),
                _ => write!(text, "{}", if end.complete { "complete" } else { "aborted" }),
            };
            write(&mut line, Some(&text), how);
        }
        line.extend_from_slice(&self.line[from..]);
        line
    }
}

fn write(to: &mut Vec<u8>, value: Option<&[u8]>, how: How) {
    match (how, value) {
        (How::Json, value) => value::json(to, value.unwrap_or_default()),
        (How::JsonString, Some(value)) => {
            to.push(b'"');
            value::json(to, value);
            to.push(b'"');
        }
        (How::JsonNumber, Some(value)) => to.extend_from_slice(value),
        (How::JsonString | How::JsonNumber, None) => to.extend_from_slice(b"null"),
        (How::Apache, None | Some([])) => to.push(b'-'),
        (How::Apache, Some(value)) => value::apache(to, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vars::tests::Known;

    fn plan(format: LogFormat) -> Result<Plan, String> {
        Plan::new(&AccessLog { name: "main".into(), format, sample: 1, errors_always: false, buffer: 1 << 20 })
    }

    fn line(format: LogFormat) -> String {
        let agent = Source::Header(http::HeaderName::from_static("user-agent"));
        let request = Known::of(&[
            (Source::Method, "GET"),
            (Source::Uri, "/a?b=\"c\""),
            (Source::HttpVersion, "HTTP/1.1"),
            (agent, "x\"\n127.0.0.1 - -"),
        ]);
        let answer = Known::of(&[
            (Source::ClientIp, "192.0.2.1"),
            (Source::TimeClf, "31/Jan/2026:12:00:00 +0000"),
            (Source::Status, "200"),
        ]);
        let plan = plan(format).unwrap();
        let start = plan.begin(&request);
        let end = End { bytes: 7, took: Duration::from_micros(1_500), complete: false };
        String::from_utf8(plan.answered(start, &answer).finish(&end)).unwrap()
    }

    #[test]
    fn apaches_formats() {
        let common = r#"192.0.2.1 - - [31/Jan/2026:12:00:00 +0000] "GET /a?b=\"c\" HTTP/1.1" 200 7"#;
        assert_eq!(line(LogFormat::Common), common);
        assert_eq!(line(LogFormat::Combined), format!(r#"{common} "-" "x\"\n127.0.0.1 - -""#));
    }

    #[test]
    fn json_has_numbers_strings_and_nulls() {
        let field = |key: &str, text: &str| (key.to_owned(), text.to_owned());
        let line = line(LogFormat::Json(vec![
            field("status", "${response.status}"),
            field("bytes", "${response.bytes}"),
            field("took", "${response.seconds}"),
            field("end", "${response.end}"),
            field("line", "${request.method} ${request.uri} \"${response.status}\""),
            field("agent", "${header('user-agent')}"),
            field("none", "${header('x')}"),
            field("port", "${client.port}"),
            field("fixed", "a\"b"),
        ]));
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            read,
            serde_json::json!({
                "status": 200, "bytes": 7, "took": 0.0015, "end": "aborted", "line": "GET /a?b=\"c\" \"200\"",
                "agent": "x\"\n127.0.0.1 - -", "none": null, "port": null, "fixed": "a\"b",
            })
        );
        assert!(!line.contains('\n'));
        assert_eq!(self::line(LogFormat::Json(vec![])), "{}");
    }

    #[test]
    fn what_is_known_at_two_times_is_refused() {
        let text = |text: &str| plan(LogFormat::Text(text.into())).map(|_| ());
        assert!(text("${header('a')} ${response_header('b')}\n${response.bytes}").is_ok());
        assert!(text("${default(header('a'), response_header('b'))}").is_err());
        assert!(text("${lower(response.end)}").is_err());
        assert!(text("${nothing}").is_err());
    }
}
