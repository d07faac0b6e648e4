//! How backends are checked.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tls_worker::api::{ProxyVersion, Secret, UpstreamTls};

/// How a backend is checked. Two that are equal ask the same, so that a backend of ten pools is asked once.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// TLS around it; none: in clear text.
    pub tls: Option<UpstreamTls>,
    /// A PROXY header of this version goes ahead that tells no client.
    pub proxy_version: Option<ProxyVersion>,
    /// Asked instead of the backend's own address.
    pub address: Option<IpAddr>,
    /// Asked instead of the backend's own port.
    pub port: Option<u16>,
    /// Where it is asked from; none: what the route says.
    pub source: Option<IpAddr>,
    /// From one check's begin to the next.
    pub interval: Duration,
    /// The same while the backend is down; none: the interval.
    pub down_interval: Option<Duration>,
    /// Percent of the interval that a check may begin earlier or later.
    pub jitter: u8,
    /// Deadline of one check.
    pub timeout: Duration,
    /// Good checks in a row until up.
    pub rise: u32,
    /// Bad checks in a row until down.
    pub fall: u32,
    /// What would be bad is good, and the other way round.
    pub reverse: bool,
}

impl HealthCheck {
    /// A check with the defaults of the config.
    pub fn new(probe: Probe) -> Self {
        Self {
            probe,
            tls: None,
            proxy_version: None,
            address: None,
            port: None,
            source: None,
            interval: Duration::from_secs(5),
            down_interval: None,
            jitter: 10,
            timeout: Duration::from_secs(2),
            rise: 1,
            fall: 3,
            reverse: false,
        }
    }

    /// Whether both ask the same: as `==`, but for the name first. What TLS trusts is long, and alike for many names.
    pub fn is_as(&self, other: &HealthCheck) -> bool {
        std::ptr::eq(self, other) || (self.server_name() == other.server_name() && self == other)
    }

    fn server_name(&self) -> Option<&str> {
        self.tls.as_ref()?.server_name.as_deref()
    }

    /// Where a backend is asked.
    pub fn destination(&self, backend: SocketAddr) -> SocketAddr {
        SocketAddr::new(self.address.unwrap_or(backend.ip()), self.port.unwrap_or(backend.port()))
    }

    /// For people: `http GET /health every 5s, rise 1, fall 3`.
    pub fn words(&self) -> String {
        use std::fmt::Write as _;
        let mut words = self.probe.words();
        let _ = match (self.address, self.port) {
            (Some(ip), Some(port)) => write!(words, " at {}", SocketAddr::new(ip, port)),
            (Some(ip), None) => write!(words, " at {ip}"),
            (None, Some(port)) => write!(words, " at port {port}"),
            (None, None) => Ok(()),
        };
        if self.tls.is_some() && self.probe != Probe::Tls {
            words += " over TLS";
        }
        if let Some(source) = self.source {
            let _ = write!(words, " from {source}");
        }
        let _ = write!(words, " every {:?}", self.interval);
        if let Some(down) = self.down_interval {
            let _ = write!(words, " ({down:?} while down)");
        }
        let _ = write!(words, ", rise {}, fall {}", self.rise, self.fall);
        if self.reverse {
            words += ", reversed";
        }
        words
    }
}

/// What a health check asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Whether a connection is taken.
    Tcp,
    /// Whether a TLS handshake is done.
    Tls,
    /// Whether a request is answered as it should be.
    Http(HttpProbe),
    /// Whether a text is answered with a text.
    Text(TextProbe),
    /// Whether a name is looked up.
    Dns(DnsProbe),
    /// Whether an echo comes back.
    Icmp,
    /// Whether a simple bind is taken.
    Ldap(LdapProbe),
    /// Whether `grpc.health.v1.Health` says SERVING.
    Grpc {
        /// What of the server is asked for; empty: all of it.
        service: String,
    },
    /// Whether a program ends with 0.
    Script(ScriptProbe),
}

impl Probe {
    fn words(&self) -> String {
        match self {
            Probe::Tcp => "tcp".into(),
            Probe::Tls => "tls".into(),
            Probe::Http(http) => format!("http {} {}", http.method, http.path),
            Probe::Text(text) if text.udp => "text over UDP".into(),
            Probe::Text(_) => "text".into(),
            Probe::Dns(dns) => format!("dns {} {}", dns.name, dns.record),
            Probe::Icmp => "icmp".into(),
            Probe::Ldap(ldap) if ldap.bind_dn.is_empty() => "ldap, anonymous".into(),
            Probe::Ldap(ldap) => format!("ldap as {}", ldap.bind_dn),
            Probe::Grpc { service } if service.is_empty() => "grpc".into(),
            Probe::Grpc { service } => format!("grpc {service}"),
            Probe::Script(script) => format!("script {}", script.program.display()),
        }
    }
}

/// A request, and what counts as a good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// `GET`, `HEAD`, `OPTIONS` or `POST`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Host header; none: the backend's address.
    pub host: Option<String>,
    /// Other headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Good codes, both ends included.
    pub codes: Vec<(u16, u16)>,
    /// What the answer's body must hold.
    pub body: Option<String>,
    /// HTTP/2: by ALPN over TLS, with prior knowledge in clear text.
    pub http2: bool,
}

impl Default for HttpProbe {
    fn default() -> Self {
        Self {
            method: "GET".into(),
            path: "/".into(),
            host: None,
            headers: Vec::new(),
            codes: vec![(200, 399)],
            body: None,
            http2: false,
        }
    }
}

/// What is sent, and what must come back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextProbe {
    /// One datagram instead of a connection.
    pub udp: bool,
    /// May be empty over TCP: then the backend speaks first.
    pub send: Vec<u8>,
    /// What the answer must hold; empty: anything.
    pub expect: Vec<u8>,
}

/// A question for a server of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsProbe {
    /// TCP instead of UDP.
    pub tcp: bool,
    /// Without a dot at its end.
    pub name: String,
    /// Type of record: `A`.
    pub record: String,
    /// What one of the records must hold.
    pub expect: Option<String>,
}

/// A simple bind (RFC 4511, 4.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LdapProbe {
    /// Empty: anonymous.
    pub bind_dn: String,
    /// Of that name.
    pub password: Option<Secret>,
}

/// A program of the operator's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptProbe {
    /// Absolute.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Whom it runs as, where the edge is root.
    pub user: String,
}
