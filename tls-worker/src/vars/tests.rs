//! What texts with variables mean.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

/// Answers from a list, by the words of the config.
#[derive(Default)]
pub(crate) struct Known(HashMap<Source, Vec<u8>>);

impl Known {
    pub(crate) fn of(pairs: &[(Source, &str)]) -> Self {
        Known(pairs.iter().map(|(source, value)| (source.clone(), value.as_bytes().to_vec())).collect())
    }
}

impl Lookup for Known {
    fn look(&self, source: &Source) -> Option<Cow<'_, [u8]>> {
        self.0.get(source).map(|value| Cow::Borrowed(&value[..]))
    }
}

fn header(name: &'static str) -> Source {
    Source::Header(http::HeaderName::from_static(name))
}

fn filled(text: &str, known: &Known) -> String {
    String::from_utf8(Template::parse(text).unwrap().fill(known)).unwrap()
}

#[test]
fn texts_are_filled_in() {
    let known = Known::of(&[
        (Source::ClientIp, "192.0.2.1"),
        (Source::Host, "a.test"),
        (header("authorization"), "Basic QUxcam9lOnNlY3JldA=="),
        (header("user-agent"), "Mail/1.0 (x&y)"),
        (Source::Url, "https://a.test/?a=b"),
        (Source::QueryParameter("DeviceId".into()), "ABC"),
    ]);
    for (text, want) in [
        ("", ""),
        ("plain", "plain"),
        ("a$$b", "a$b"),
        ("${client.ip}", "192.0.2.1"),
        ("<${ client.ip }@${request.host}>", "<192.0.2.1@a.test>"),
        ("${before(base64_decode(after(header('authorization'), 'Basic ')), ':')}", "AL\\joe"),
        ("${urlencode(header('User-Agent'))}", "Mail%2F1.0%20%28x%26y%29"),
        ("${base64(request.url)}", "aHR0cHM6Ly9hLnRlc3QvP2E9Yg=="),
        ("${query('DeviceId')}", "ABC"),
        // What cannot be had is empty, and so is what is made of it.
        ("[${cookie('none')}]", "[]"),
        ("[${urlencode(cookie('none'))}]", "[]"),
        ("[${after(client.ip, '/')}]", "[]"),
        ("[${base64_decode(client.ip)}]", "[]"),
        ("${default(cookie('none'), '-')}", "-"),
        ("${default(client.ip, '-')}", "192.0.2.1"),
        ("${default('it''s', 'x')}", "it's"),
        ("${after(client.ip, '')}", "192.0.2.1"),
    ] {
        assert_eq!(filled(text, &known), want, "{text}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, at, problem, help) in [
        ("x$y", 1..2, "stands alone", "`$$`"),
        ("${client.ipp}", 2..12, "no variable `client.ipp`", "did you mean `client.ip`?"),
        ("${zzzzzzzz}", 2..10, "no variable", "known are: client.ip"),
        ("${befor(client.ip,'x')}", 2..7, "no function `befor`", "did you mean `before`?"),
        ("${before(client.ip)}", 2..8, "takes 2 argument(s), and has 1", "commas"),
        ("${header(client.ip)}", 2..8, "takes one text", "header('NAME')"),
        ("${header('a b')}", 9..14, "cannot have \"a b\"", "a header's name"),
        ("${path_part('0')}", 12..15, "cannot have \"0\"", "'1' to '64'"),
        ("ab${client.ip", 2..13, "is not understood", "${name}"),
        ("${}", 0..3, "is not understood", "${name}"),
        ("${'open}", 0..8, "is not understood", "${name}"),
    ] {
        let error = Template::parse(text).unwrap_err();
        assert_eq!(error.at, at, "{text}: {error}");
        assert!(error.problem.contains(problem) && error.help.contains(help), "{text}: {error}");
    }
    let deep = format!("${{{}client.ip{}}}", "lower(".repeat(17), ")".repeat(17));
    assert!(Template::parse(&deep).unwrap_err().problem.contains("too many functions"));
    assert!(Template::parse(&"x".repeat(5000)).unwrap_err().problem.contains("too long"));
}

#[test]
fn what_a_text_asks_for_is_known_beforehand() {
    let parse = |text: &str| Template::parse(text).unwrap();
    assert_eq!(parse("a$$").constant(), Some("a$"));
    assert_eq!(parse("${client.ip}").constant(), None);
    assert!(parse("x${default(response_header('etag'), 'y')}").uses_response());
    assert!(!parse("${client.ip}").uses_response());
    assert!(parse("${lower(tls.client_cert.subject)}").uses_client_cert());
}

#[test]
fn the_docs_name_every_variable_and_function() {
    let docs = include_str!("../../../docs/variables.md");
    let rows: Vec<&str> = docs.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next()).collect();
    let named =
        |name: &str| rows.iter().flat_map(|row| row.split('`')).any(|word| word.split('(').next() == Some(name));
    let (sources, functions) = names();
    for name in sources.iter().map(String::as_str).chain(functions) {
        let name = if name.starts_with("tls.client_cert.") { "tls.client_cert.FIELD" } else { name };
        assert!(named(name), "docs/variables.md lacks {name}");
    }
}

#[test]
fn no_text_grows_over_its_bound() {
    let long = "x".repeat(40 << 10);
    let known = Known::of(&[(Source::Path, &long)]);
    assert_eq!(filled("${request.path}${request.path}", &known).len(), MAX_LENGTH);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(\\$|\\{|\\}|\\(|\\)|'|,|client.ip|before|\\PC){0,20}") {
        if let Ok(template) = Template::parse(&text) {
            template.fill(&Known::default());
        }
    }

    #[test]
    fn texts_without_a_dollar_are_themselves(text in "[^$]{0,60}") {
        let template = Template::parse(&text).unwrap();
        prop_assert_eq!(template.constant(), Some(&*text));
    }

    #[test]
    fn base64_comes_back(text in "\\PC{0,30}") {
        let known = Known::of(&[(Source::Path, &text)]);
        prop_assert_eq!(filled("${base64_decode(base64(request.path))}", &known), text);
    }
}
