//! Variables in texts of the config: `https://${request.host}${request.uri}`, or
//! `${before(base64_decode(after(header('authorization'), 'Basic ')), ':')}`. A text is read once, by [`Template::parse`],
//! which the control plane calls too to say what is wrong in it, and filled in for a request from whoever answers a
//! [`Lookup`].
//!
//! What cannot be had (no such header, base64 that is none) is *undefined*: a function of it is undefined too, `default`
//! gives it a value, and in a text it is empty.

mod function;
mod parse;
mod source;

pub use parse::TemplateError;
pub(crate) use source::Source;

use crate::api::ClientCertField;
use function::Function;
use std::borrow::Cow;
use std::net::IpAddr;

/// Longest text that a template may make, bytes. What is longer is cut off.
const MAX_LENGTH: usize = 64 << 10;

/// Answers what a variable holds.
pub(crate) trait Lookup {
    /// None: undefined.
    fn look(&self, source: &Source) -> Option<Cow<'_, [u8]>>;

    /// Whether one of its values is good: a header may be there several times.
    fn any(&self, source: &Source, good: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.look(source).is_some_and(|value| good(&value))
    }

    /// Address of the client.
    fn client(&self) -> Option<IpAddr> {
        str::from_utf8(&self.look(&Source::ClientIp)?).ok()?.parse().ok()
    }
}

/// When something of a request is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// When its header is there.
    Request,
    /// When the answer's is.
    Answer,
    /// When the answer's body has ended.
    End,
}

/// A text with variables, ready to be filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Template(Vec<Expr>);

#[derive(Debug, Clone, PartialEq)]
enum Expr {
    Text(Box<str>),
    Source(Source),
    Call(Function, Vec<Expr>),
}

impl Template {
    /// Read a text: `${expression}` is filled in, `$$` is a dollar sign, everything else is itself.
    ///
    /// # Errors
    /// Where in the text something is not understood, what, and what to write instead.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        parse::template(text).map(Template)
    }

    /// The text for one request. Bytes, for a decoded or a header's value need not be UTF-8.
    pub(crate) fn fill(&self, from: &dyn Lookup) -> Vec<u8> {
        let mut text = Vec::new();
        for piece in &self.0 {
            if let Some(value) = piece.eval(from) {
                let room = MAX_LENGTH - text.len();
                text.extend_from_slice(&value[..value.len().min(room)]);
            }
        }
        text
    }

    /// The value of a text that is one expression and nothing else, undefined or not; of any other its text.
    pub(crate) fn value<'a>(&'a self, from: &'a dyn Lookup) -> Option<Cow<'a, [u8]>> {
        match &self.0[..] {
            [one] => one.eval(from),
            _ => Some(self.fill(from).into()),
        }
    }

    /// The text, where there is nothing to fill in.
    pub fn constant(&self) -> Option<&str> {
        match &self.0[..] {
            [] => Some(""),
            [Expr::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether it asks for anything that is known only when the backend has answered.
    pub fn uses_response(&self) -> bool {
        self.0.iter().any(|expr| expr.any(&|source| source.is_of_response()))
    }

    /// Whether it may tell a credential: a cookie, or what authenticates.
    pub fn tells_secrets(&self) -> bool {
        self.0.iter().any(|expr| expr.any(&|source| source.is_secret()))
    }

    /// Its pieces in the order of the text, each by itself.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Template> {
        self.0.iter().map(|expr| Template(vec![expr.clone()]))
    }

    /// The one variable that it is.
    pub(crate) fn source(&self) -> Option<&Source> {
        match &self.0[..] {
            [Expr::Source(source)] => Some(source),
            _ => None,
        }
    }

    /// When a line of a log can be told it, by its last variable. None: it asks for the request's header together with
    /// the answer, or puts the answer's end into a function; a log does not keep the one for the other.
    pub(crate) fn moment(&self) -> Option<Moment> {
        let any = |what: fn(&Source) -> bool| self.0.iter().any(|expr| expr.any(&what));
        match (any(Source::is_of_head), any(Source::is_of_response), any(Source::is_of_end)) {
            (true, false, _) => Some(Moment::Request),
            (true, true, _) => None,
            (false, _, false) => Some(Moment::Answer),
            (false, _, true) => self.source().map(|_| Moment::End),
        }
    }

    /// Whether every piece of it can be in a line of a log.
    pub fn fits_a_log(&self) -> bool {
        self.pieces().all(|piece| piece.moment().is_some())
    }

    /// Fields of the client's certificate that it asks for.
    pub fn uses_client_cert(&self) -> bool {
        self.0.iter().any(|expr| expr.any(&|source| matches!(source, Source::ClientCert(_))))
    }
}

impl Expr {
    fn eval<'a>(&'a self, from: &'a dyn Lookup) -> Option<Cow<'a, [u8]>> {
        match self {
            Expr::Text(text) => Some(Cow::Borrowed(text.as_bytes())),
            Expr::Source(source) => from.look(source),
            Expr::Call(Function::Default, arguments) => arguments.iter().find_map(|one| one.eval(from)),
            Expr::Call(function, arguments) => {
                let values: Option<Vec<_>> = arguments.iter().map(|one| one.eval(from)).collect();
                function.call(values?)
            }
        }
    }

    fn any(&self, what: &dyn Fn(&Source) -> bool) -> bool {
        match self {
            Expr::Text(_) => false,
            Expr::Source(source) => what(source),
            Expr::Call(_, arguments) => arguments.iter().any(|one| one.any(what)),
        }
    }
}

/// Every variable and function by its name in the config, for the documentation's tests.
pub fn names() -> (Vec<String>, Vec<&'static str>) {
    let fields = crate::api::ALL_CLIENT_CERT_FIELDS.map(|field: ClientCertField| source::client_cert_name(field));
    let sources = source::NAMES.iter().map(|(name, _)| (*name).to_owned()).chain(fields).collect();
    (sources, source::KEYED.iter().chain(function::NAMES.iter().map(|(name, ..)| name)).copied().collect())
}

#[cfg(test)]
pub(crate) mod tests;
