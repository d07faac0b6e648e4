//! A request that nobody sent, to see which route would take it.

use super::{Patterns, Router};
use crate::api::Route;
use crate::vars::{Lookup, Source};
use http::Method;
use std::borrow::Cow;
use std::net::IpAddr;

/// What is known of it. It has no certificate, and no variable but those of its fields.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Host without port.
    pub host: String,
    /// `GET`
    pub method: String,
    /// Path.
    pub path: String,
    /// What follows the `?`.
    pub query: Option<String>,
    /// Headers by name.
    pub headers: Vec<(String, String)>,
    /// Address of the client.
    pub client: IpAddr,
    /// Server name that the client asked for.
    pub sni: Option<String>,
}

/// Place of the route that would take a request.
///
/// # Errors
/// What is wrong with the routes, or with the request.
pub fn find(routes: &[Route], sample: &Sample) -> Result<Option<usize>, String> {
    let router = Router::new(routes, &mut Patterns::default())?;
    let method =
        Method::from_bytes(sample.method.as_bytes()).map_err(|_| format!("{:?} is no method", sample.method))?;
    Ok(router.find(&sample.host, &sample.path, &method, sample))
}

impl Lookup for Sample {
    fn look(&self, source: &Source) -> Option<Cow<'_, [u8]>> {
        let text = match source {
            Source::Host => &self.host,
            Source::Method => &self.method,
            Source::Path => &self.path,
            Source::Query => self.query.as_ref()?,
            Source::TlsSni => self.sni.as_ref()?,
            Source::ClientIp => return Some(Cow::Owned(self.client.to_string().into_bytes())),
            Source::Header(name) => &self.headers.iter().find(|(one, _)| one.eq_ignore_ascii_case(name.as_str()))?.1,
            Source::QueryParameter(name) => {
                let mut pairs = form_urlencoded::parse(self.query.as_ref()?.as_bytes());
                let (_, value) = pairs.find(|(one, _)| *one == **name)?;
                return Some(Cow::Owned(value.into_owned().into_bytes()));
            }
            _ => return None,
        };
        Some(text.as_bytes().into())
    }

    fn any(&self, source: &Source, good: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        match source {
            Source::Header(name) => {
                let mut values = self.headers.iter().filter(|(one, _)| one.eq_ignore_ascii_case(name.as_str()));
                values.any(|(_, value)| good(value.as_bytes()))
            }
            _ => self.look(source).is_some_and(|value| good(&value)),
        }
    }

    fn client(&self) -> Option<IpAddr> {
        Some(self.client)
    }
}
