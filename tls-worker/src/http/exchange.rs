//! One request on its way: [`Exchange`] is what the stages know and note of it, [`Facts`] what conditions and texts with
//! variables may ask about it.

use super::forwarded::Told;
use super::grpc::Call;
use super::log::Begun;
use super::stamp::Stamp;
use crate::api::ClientCertField;
use crate::conn::Client;
use crate::tls::Peer;
use crate::vars::{Lookup, Source};
use crate::view::{Answered, ServiceView, View};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header};
use ring::rand::{SecureRandom, SystemRandom};
use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

/// A request, from its header to the end of the answer's.
pub(super) struct Exchange {
    pub(super) client: Rc<Client>,
    /// What it is served by, whatever changes meanwhile.
    pub(super) view: Rc<View>,
    pub(super) service: Rc<ServiceView>,
    pub(super) began: Instant,
    /// Host, lower case, without port; empty until it is known.
    pub(super) host: Box<str>,
    /// Authority as the client wrote it.
    pub(super) authority: HeaderValue,
    /// Who answered it.
    pub(super) by: Answered,
    /// When it must have an answer, over everything that is done for it.
    pub(super) deadline: Option<Instant>,
    /// The route's changes of the answer's header are made.
    pub(super) dressed: Cell<bool>,
    /// Its header as it came, where something asks for it when the answer is there.
    pub(super) kept: Option<Box<Kept>>,
    /// What a trusted proxy says of it.
    pub(super) told: Option<Box<Told>>,
    /// It is a call of gRPC.
    pub(super) grpc: Option<Call>,
    /// What its line in the access log begins with.
    pub(super) log: Option<Begun>,
    id: OnceCell<[u8; 32]>,
}

impl Exchange {
    pub(super) fn new(client: Rc<Client>, view: Rc<View>, service: Rc<ServiceView>, began: Instant) -> Self {
        Exchange {
            client,
            view,
            service,
            began,
            host: Box::default(),
            authority: HeaderValue::from_static(""),
            by: Answered::default(),
            deadline: None,
            dressed: Cell::new(false),
            kept: None,
            told: None,
            grpc: None,
            log: None,
            id: OnceCell::new(),
        }
    }

    /// Address of the client, as the proxies that are trusted tell it, or else of the peer.
    pub(super) fn client_ip(&self) -> IpAddr {
        self.told.as_ref().and_then(|told| told.client()).unwrap_or_else(|| self.client.peer_address.ip())
    }

    /// The request's id: that of a trusted proxy, or else 32 hexadecimal digits of chance.
    pub(super) fn id(&self) -> &[u8] {
        if let Some(id) = self.told.as_ref().and_then(|told| told.id.as_ref()) {
            return id.as_bytes();
        }
        self.id.get_or_init(|| {
            let mut random = [0; 16];
            // ring's system generator does not fail once the kernel's has begun.
            let _ = SystemRandom::new().fill(&mut random);
            std::array::from_fn(|i| {
                let nibble = random[i / 2] >> (4 * (1 - i % 2)) & 15;
                b"0123456789abcdef"[usize::from(nibble)]
            })
        })
    }

    /// When it came, on the wall's clock.
    fn came(&self) -> Stamp {
        Stamp::of(SystemTime::now() - self.began.elapsed())
    }

    /// What may be asked about it, with this header.
    pub(super) fn facts<'a>(&'a self, head: Head<'a>) -> Facts<'a> {
        Facts { exchange: self, head, answer: None }
    }
}

/// A copy of a request's header.
pub(super) struct Kept {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
}

impl From<Head<'_>> for Kept {
    fn from(head: Head<'_>) -> Self {
        let Head { method, uri, version, headers } = head;
        Kept { method: method.clone(), uri: uri.clone(), version, headers: headers.clone() }
    }
}

impl<'a> From<&'a Kept> for Head<'a> {
    fn from(kept: &'a Kept) -> Self {
        Head { method: &kept.method, uri: &kept.uri, version: kept.version, headers: &kept.headers }
    }
}

/// The header of a request, wherever it is kept.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) version: Version,
    pub(super) headers: &'a HeaderMap,
}

impl<'a> From<&'a http::request::Parts> for Head<'a> {
    fn from(parts: &'a http::request::Parts) -> Self {
        Head { method: &parts.method, uri: &parts.uri, version: parts.version, headers: &parts.headers }
    }
}

impl<'a, B> From<&'a http::Request<B>> for Head<'a> {
    fn from(request: &'a http::Request<B>) -> Self {
        Head { method: request.method(), uri: request.uri(), version: request.version(), headers: request.headers() }
    }
}

/// See the module.
pub(super) struct Facts<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) head: Head<'a>,
    /// When there is one.
    pub(super) answer: Option<(StatusCode, &'a HeaderMap)>,
}

impl<'a> Facts<'a> {
    /// The same, when the answer is there.
    pub(super) fn with_answer(self, status: StatusCode, headers: &'a HeaderMap) -> Self {
        Facts { answer: Some((status, headers)), ..self }
    }

    fn peer(&self) -> Option<&Peer> {
        self.exchange.client.peer()
    }

    fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        let fields = self.head.headers.get_all(header::COOKIE);
        let pairs = fields.iter().flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
        pairs.map(<[u8]>::trim_ascii).find_map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=')?;
            (&pair[..at] == name.as_bytes()).then(|| pair[at + 1..].trim_ascii())
        })
    }

    fn query_parameter(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let query = self.head.uri.query()?;
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        let (_, value) = pairs.find(|(key, _)| key == name)?;
        Some(match value {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        })
    }
}

fn text(text: impl ToString) -> Option<Cow<'static, [u8]>> {
    Some(Cow::Owned(text.to_string().into_bytes()))
}

fn owned<'a>(value: Option<HeaderValue>) -> Option<Cow<'a, [u8]>> {
    value.map(|value| Cow::Owned(value.as_bytes().to_vec()))
}

impl Lookup for Facts<'_> {
    fn any(&self, source: &Source, good: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        match source {
            Source::Header(name) => self.head.headers.get_all(name).iter().any(|value| good(value.as_bytes())),
            Source::ClientCert(field) => {
                let Some(value) = self.exchange.client.certificate_header(*field) else { return false };
                match field {
                    // Names have no comma of their own: it is escaped.
                    ClientCertField::San => value.to_str().is_ok_and(|all| all.split(", ").any(|n| good(n.as_bytes()))),
                    _ => good(value.as_bytes()),
                }
            }
            _ => self.look(source).is_some_and(|value| good(&value)),
        }
    }

    fn client(&self) -> Option<IpAddr> {
        Some(self.exchange.client_ip())
    }

    fn look(&self, source: &Source) -> Option<Cow<'_, [u8]>> {
        let Facts { exchange, head, .. } = self;
        let client = &exchange.client;
        match source {
            Source::ClientIp => text(exchange.client_ip()),
            Source::ClientPort => text(client.peer_address.port()),
            Source::ServerIp => text(client.local_address.ip()),
            Source::ServerPort => text(client.local_address.port()),
            Source::RequestId => Some(Cow::Borrowed(exchange.id())),
            Source::Method => Some(head.method.as_str().as_bytes().into()),
            Source::Scheme => Some(client.proto.as_bytes().into()),
            Source::Host => Some(exchange.host.as_bytes().into()),
            Source::Path => Some(head.uri.path().as_bytes().into()),
            Source::Query => head.uri.query().map(|query| query.as_bytes().into()),
            Source::Uri => Some(head.uri.path_and_query().map_or("/", |p| p.as_str()).as_bytes().into()),
            Source::Url => {
                let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
                let parts = [client.proto.as_bytes(), b"://", exchange.authority.as_bytes(), path.as_bytes()];
                Some(parts.concat().into())
            }
            Source::HttpVersion => {
                let version = match head.version {
                    Version::HTTP_2 => "HTTP/2.0",
                    Version::HTTP_10 => "HTTP/1.0",
                    _ => "HTTP/1.1",
                };
                Some(version.as_bytes().into())
            }
            Source::Header(name) => head.headers.get(name).map(|value| value.as_bytes().into()),
            Source::QueryParameter(name) => self.query_parameter(name),
            Source::Cookie(name) => self.cookie(name).map(Cow::Borrowed),
            Source::PathPart(place) => {
                let part = head.uri.path().trim_start_matches('/').split('/').nth(place - 1)?;
                (!part.is_empty()).then(|| part.as_bytes().into())
            }
            Source::TlsVersion => self.peer()?.version().map(|version| version.as_bytes().into()),
            Source::TlsCipher => self.peer()?.cipher().map(|cipher| cipher.as_bytes().into()),
            Source::TlsSni => self.peer()?.server_name().map(|name| name.as_bytes().into()),
            Source::TlsAlpn => Some(self.peer()?.alpn().as_bytes().into()),
            Source::ClientCert(field) => owned(client.certificate_header(*field)),
            Source::Service => Some(exchange.service.name.as_bytes().into()),
            Source::Route => exchange.service.route_name(exchange.by).map(|name| name.as_bytes().into()),
            Source::Pool => exchange.service.pool_name(exchange.by).map(|name| name.as_bytes().into()),
            Source::Backend => exchange.service.backend(exchange.by).and_then(text),
            Source::Status => self.answer.and_then(|(status, _)| text(status.as_u16())),
            Source::HeaderSeconds => {
                self.answer.and_then(|_| text(format!("{:.6}", exchange.began.elapsed().as_secs_f64())))
            }
            Source::Time => text(exchange.came().iso8601()),
            Source::TimeUnix => text(exchange.came().unix()),
            Source::TimeClf => text(exchange.came().clf()),
            // Of the access log alone, which knows them when it has all else.
            Source::ResponseBytes | Source::Seconds | Source::ResponseEnd => None,
            Source::ResponseHeader(name) => self.answer?.1.get(name).map(|value| value.as_bytes().into()),
        }
    }
}
