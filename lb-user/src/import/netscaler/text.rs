//! Expressions that make texts as texts with variables.

use super::expr::{Call, Expr, plain};

/// The text with variables of an expression, or why there is none.
pub(super) fn text(expr: &Expr) -> Result<String, String> {
    match expr {
        Expr::Text(text) => Ok(text.replace('$', "$$")),
        Expr::Concat(list) if is_url(list) => Ok("${request.url}".into()),
        Expr::Concat(list) => list.iter().map(text).collect(),
        other => Ok(format!("${{{}}}", value(other)?)),
    }
}

/// What stands between `${` and `}`.
fn value(expr: &Expr) -> Result<String, String> {
    match expr {
        Expr::Text(text) => Ok(literal(text)),
        Expr::Concat(list) if is_url(list) => Ok("request.url".into()),
        Expr::Concat(_) => Err("a function of several texts has no counterpart".into()),
        Expr::Chain(base, calls) => {
            let (mut text, rest) = match base {
                Some(base) => (value(base)?, &calls[..]),
                None => variable(calls)?,
            };
            for call in rest {
                text = function(text, call)?;
            }
            Ok(text)
        }
        _ => Err("a condition is no text".into()),
    }
}

/// `"https://" + HTTP.REQ.HOSTNAME + HTTP.REQ.URL`
fn is_url(list: &[Expr]) -> bool {
    let named = |expr: &Expr, name: &str| plain(expr).is_some_and(|plain| plain == name);
    match list {
        [Expr::Text(scheme), host, url] => {
            ["https://", "http://"].contains(&scheme.as_str())
                && named(host, "HTTP.REQ.HOSTNAME")
                && (named(url, "HTTP.REQ.URL") || named(url, "HTTP.REQ.URL.PATH_AND_QUERY"))
        }
        _ => false,
    }
}

fn variable(calls: &[Call]) -> Result<(String, &[Call]), String> {
    let names: Vec<&str> = calls.iter().map(|call| call.name.as_str()).collect();
    let argument = |at: usize| {
        let first = calls.get(at).and_then(|call| call.arguments.first()).and_then(plain);
        first.map(|text| literal(&text)).ok_or_else(|| "a name is missing".to_owned())
    };
    let (variable, used) = match &names[..] {
        ["HTTP", "REQ", "URL", "QUERY", "VALUE", ..] => (format!("query({})", argument(4)?), 5),
        ["HTTP", "REQ", "URL", "QUERY", ..] => ("request.query".into(), 4),
        ["HTTP", "REQ", "URL", "PATH", ..] => ("request.path".into(), 4),
        ["HTTP", "REQ", "URL", "PATH_AND_QUERY", ..] => ("request.uri".into(), 4),
        ["HTTP", "REQ", "URL", ..] => ("request.uri".into(), 3),
        ["HTTP", "REQ", "HOSTNAME", "SERVER", ..] => ("request.host".into(), 4),
        ["HTTP", "REQ", "HOSTNAME", ..] => ("request.host".into(), 3),
        ["HTTP", "REQ", "METHOD", ..] => ("request.method".into(), 3),
        ["HTTP", "REQ", "HEADER", "VALUE", ..] => (format!("header({})", argument(2)?), 4),
        ["HTTP", "REQ", "HEADER", ..] => (format!("header({})", argument(2)?), 3),
        ["HTTP", "REQ", "COOKIE", "VALUE", ..] => (format!("cookie({})", argument(3)?), 4),
        ["CLIENT", "IP", "SRC", ..] => ("client.ip".into(), 3),
        ["CLIENT", "TCP", "SRCPORT", ..] => ("client.port".into(), 3),
        ["CLIENT", "SSL", "CLIENT_CERT", "SUBJECT", ..] => ("tls.client_cert.subject".into(), 4),
        ["CLIENT", "SSL", "CLIENT_CERT", "ISSUER", ..] => ("tls.client_cert.issuer".into(), 4),
        ["CLIENT", "SSL", "CLIENT_CERT", "SERIALNUMBER", ..] => ("tls.client_cert.serial".into(), 4),
        _ => return Err(format!("{} has no counterpart", names.join("."))),
    };
    Ok((variable, &calls[used..]))
}

fn function(text: String, call: &Call) -> Result<String, String> {
    let argument = || call.arguments.first().and_then(plain).map(|text| literal(&text)).unwrap_or_default();
    Ok(match call.name.as_str() {
        "AFTER_STR" => format!("after({text}, {})", argument()),
        "BEFORE_STR" => format!("before({text}, {})", argument()),
        "B64DECODE" => format!("base64_decode({text})"),
        "B64ENCODE" => format!("base64({text})"),
        "TO_LOWER" => format!("lower({text})"),
        "HTTP_URL_SAFE" => format!("urlencode({text})"),
        "TYPECAST_TEXT_T" | "HTTP_HEADER_SAFE" => text,
        other => return Err(format!(".{other} has no counterpart")),
    })
}

/// A value of a query, which the edge encodes by itself.
pub(super) fn parameter(expr: &Expr) -> Result<String, String> {
    match expr {
        Expr::Chain(base, calls) if calls.last().is_some_and(|call| call.name == "HTTP_URL_SAFE") => {
            let before = calls[..calls.len() - 1].to_vec();
            match (base, before.is_empty()) {
                (Some(base), true) => text(base),
                _ => text(&Expr::Chain(base.clone(), before)),
            }
        }
        other => text(other),
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
