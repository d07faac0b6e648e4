//! The words that counters are kept by: reasons, deadlines, kinds.

/// An enum that counters are kept by: its names are those of [`crate::api`] and of the metrics.
macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            pub(crate) const NAMES: &'static [&'static str] = &[$($text),*];
        }

        impl From<$name> for usize {
            fn from(reason: $name) -> usize { reason as usize }
        }
    };
}

pub(super) use reasons;

reasons! {
    /// Why a TLS handshake failed.
    HandshakeFailure {
        /// Not done by the deadline.
        Timeout = "timeout",
        /// The client went away.
        Closed = "closed",
        /// What came is no TLS record.
        NotTls = "not_tls",
        /// What came is an HTTP request in clear text.
        PlainHttp = "plain_http",
        /// No cipher suite, group or signature scheme in common.
        NoSharedCipher = "no_shared_cipher",
        /// No application protocol in common.
        NoSharedProtocol = "no_shared_protocol",
        /// No version of TLS in common.
        NoSharedVersion = "no_shared_version",
        /// A name that the service does not know, or none, where it must be known.
        UnknownName = "unknown_name",
        /// A ClientHello over the bound.
        TooLong = "too_long",
        /// The client did not like our certificate, and said so.
        BadCertificate = "bad_certificate",
        /// A client certificate is required, and there was none.
        ClientCertMissing = "client_cert_missing",
        /// The client's certificate comes from nobody who is trusted.
        UnknownCa = "unknown_ca",
        /// The client's certificate, or one above it, is too old or too new.
        Expired = "expired",
        /// The client's certificate is revoked, by a list or by its responder.
        Revoked = "revoked",
        /// Its revocation list is too old to be believed.
        CrlExpired = "crl_expired",
        /// Its responder had to be heard, and was not, or does not know it.
        OcspUnavailable = "ocsp_unavailable",
        /// The client's certificate has another fault.
        ClientCertBad = "client_cert_bad",
        /// Anything else.
        Other = "other",
    }
}

reasons! {
    /// Why the edge itself answered a request, or closed a connection that has none. Those of a malformed request are
    /// answered with 400, where no other code stands.
    Rejection {
        /// Host or authority is missing, there more than once, malformed, or contradicts itself.
        Host = "host",
        /// CONNECT or TRACE.
        Method = "method",
        /// A request target that is neither a path nor an absolute URI.
        Target = "target",
        /// No route matches; of `tls`, after the handshake.
        NoRoute = "no_route",
        /// No backend of the pool may be chosen; of `tls` and `passthrough`.
        NoBackend = "no_backend",
        /// A host of other rules for TLS than those that the connection was made by (421).
        Misdirected = "misdirected",
        /// A client certificate that was found out to be revoked, or whose state could not be had (403).
        ClientCert = "client_cert",
        /// No backend had room, and as many waited as may (503).
        QueueFull = "queue_full",
        /// No backend had room in time (503).
        QueueTimeout = "queue_timeout",
        /// As many requests of the pool were in flight as may (503).
        CircuitRequests = "circuit_requests",
        /// As many requests of the pool waited for a connection as may (503).
        CircuitPending = "circuit_pending",
        /// A rewrite or a redirect that made no target of it.
        Rewrite = "rewrite",
        /// The route's own deadline (504).
        Deadline = "deadline",
        /// A route's authorizer denied it, and the connection was dropped.
        Denied = "denied",
        /// A callout of this edge came back to it as a request that needs a callout (508).
        Loop = "loop",
        /// A limit of the service or of the source (429).
        Limited = "limited",
        /// A request line of other parts than method, target and version, or with a character that no method has.
        RequestLine = "request_line",
        /// Another version than HTTP/1.0 and HTTP/1.1, or none.
        Version = "version",
        /// A fragment in the target.
        Fragment = "fragment",
        /// A path that the service's policy refuses.
        Path = "path",
        /// White space before the first field.
        Leading = "leading",
        /// CR or LF alone.
        LineEnd = "line_end",
        /// A field on more than one line.
        Fold = "fold",
        /// A field without a name, or with a character that no name has.
        HeaderName = "header_name",
        /// White space between a field's name and its colon.
        SpaceBeforeColon = "space_before_colon",
        /// NUL, or another control character, in a field's value.
        Control = "control",
        /// Transfer-Encoding and Content-Length.
        TwoFramings = "two_framings",
        /// Transfer-Encoding, and HTTP/1.0.
        OldChunked = "old_chunked",
        /// Transfer-Encoding that is not `chunked` alone, or stands there twice.
        TransferEncoding = "transfer_encoding",
        /// Content-Length that is no number, or stands there twice.
        ContentLength = "content_length",
        /// A chunk's size, extension or end.
        Chunk = "chunk",
        /// A trailer that frames or routes.
        Trailer = "trailer",
        /// More fields than the limit (431).
        HeaderCount = "header_count",
        /// A longer header than the limit (431).
        HeaderSize = "header_size",
        /// A longer target than the limit (414).
        UriLength = "uri_length",
        /// A longer body than the limit (413).
        BodySize = "body_size",
        /// A body that comes too slowly (408).
        BodySlow = "body_slow",
    }
}

impl Rejection {
    /// Whether nobody can say what would come next on an HTTP/1.1 connection, or nobody wants to read it.
    pub(crate) fn ends_connection(self) -> bool {
        use Rejection as R;
        let malformed = matches!(
            self,
            R::Host
                | R::Target
                | R::RequestLine
                | R::Version
                | R::Fragment
                | R::Path
                | R::Leading
                | R::LineEnd
                | R::Fold
        );
        let framing = matches!(
            self,
            R::TwoFramings | R::OldChunked | R::TransferEncoding | R::ContentLength | R::Chunk | R::Trailer
        );
        let field = matches!(self, R::HeaderName | R::SpaceBeforeColon | R::Control);
        let limit = matches!(self, R::HeaderCount | R::HeaderSize | R::UriLength | R::BodySize | R::BodySlow);
        malformed || framing || field || limit
    }
}

reasons! {
    /// What came of a connection that begins, or may begin, with a PROXY header.
    ProxyHeaders {
        /// It told where the client is.
        Accepted = "accepted",
        /// It has none, or is the proxy's own.
        Local = "local",
        /// A peer sent one, or had to, that is not trusted with it.
        Untrusted = "untrusted",
        /// It is required, and there was none.
        Missing = "missing",
        /// It is not what the protocol says.
        Malformed = "malformed",
        /// It is longer than the bound.
        TooLong = "too_long",
        /// It was not whole by the deadline.
        Timeout = "timeout",
        /// The peer went away.
        Closed = "closed",
    }
}

reasons! {
    /// Limits of clients.
    Limit {
        /// Connections of a service at once.
        ServiceConnections = "service_connections",
        /// Connections of a source at once.
        SourceConnections = "source_connections",
        /// Requests of a service.
        ServiceRequests = "service_requests",
        /// Requests of a source.
        SourceRequests = "source_requests",
        /// Let pass: the source is not remembered, as the table is full.
        SourceUntracked = "source_untracked",
    }
}

reasons! {
    /// What an HTTP/2 client did too much of.
    Abuse {
        /// RST_STREAM.
        Reset = "reset",
        /// PING.
        Ping = "ping",
        /// SETTINGS.
        Settings = "settings",
        /// CONTINUATION.
        Continuation = "continuation",
        /// DATA without data.
        EmptyData = "empty_data",
        /// PRIORITY.
        Priority = "priority",
        /// WINDOW_UPDATE, for what it was sent.
        WindowUpdate = "window_update",
        /// Frames of unknown types, and answers to what was not asked.
        Unknown = "unknown",
        /// A stream that its window let nothing through for too long; the stream alone is ended.
        Stall = "stall",
        /// Something that the library counts: resets that were not looked at yet, small DATA frames, CONTINUATION.
        Other = "other",
    }
}

reasons! {
    /// What became of mirrored requests.
    Mirrored {
        /// Its answer was thrown away.
        Answered = "answered",
        /// No backend, or no whole answer.
        Failed = "failed",
        /// Not answered by the mirror's deadline.
        Timeout = "timeout",
        /// Not sent: as many as may be were under way.
        Busy = "busy",
        /// Not sent: its body is too long.
        TooLong = "too_long",
        /// Not sent: the backend answered before the body was whole, or the client broke off.
        Incomplete = "incomplete",
    }
}

reasons! {
    /// Why a connection was closed before its handshake.
    HandshakeRefused {
        /// Too many handshakes under way on this thread.
        AtOnce = "at_once",
        /// Too many of one source.
        PerSource = "per_source",
    }
}

reasons! {
    /// How a handshake was done.
    Session {
        /// In full.
        Full = "full",
        /// From a session that was begun before.
        Resumed = "resumed",
        /// In full, after a HelloRetryRequest.
        Retried = "retried",
    }
}

reasons! {
    /// Key exchange groups.
    Group {
        /// draft-ietf-tls-ecdhe-mlkem
        X25519MlKem768 = "X25519MLKEM768",
        /// RFC 7748
        X25519 = "x25519",
        /// RFC 8422
        Secp256r1 = "secp256r1",
        /// RFC 8422
        Secp384r1 = "secp384r1",
    }
}

reasons! {
    /// What came of asking a client for a certificate.
    ClientCert {
        /// It showed none.
        None = "none",
        /// A good one.
        Verified = "verified",
        /// From nobody who is trusted.
        UnknownCa = "unknown_ca",
        /// It, or one above it, is too old or too new.
        Expired = "expired",
        /// Revoked, by a list or by its responder.
        Revoked = "revoked",
        /// Its revocation list is too old to be believed.
        CrlExpired = "crl_expired",
        /// Its responder had to be heard, and was not, or does not know it.
        OcspUnavailable = "ocsp_unavailable",
        /// Another fault.
        Bad = "bad",
    }
}

/// What came of asking for a certificate, where a handshake failed for that.
const FOR_CLIENT_CERT: [(HandshakeFailure, ClientCert); 7] = [
    (HandshakeFailure::ClientCertMissing, ClientCert::None),
    (HandshakeFailure::UnknownCa, ClientCert::UnknownCa),
    (HandshakeFailure::Expired, ClientCert::Expired),
    (HandshakeFailure::Revoked, ClientCert::Revoked),
    (HandshakeFailure::CrlExpired, ClientCert::CrlExpired),
    (HandshakeFailure::OcspUnavailable, ClientCert::OcspUnavailable),
    (HandshakeFailure::ClientCertBad, ClientCert::Bad),
];

impl HandshakeFailure {
    /// What came of asking for a certificate, where this was for that.
    pub(crate) fn of_client_cert(self) -> Option<ClientCert> {
        FOR_CLIENT_CERT.iter().find(|(failure, _)| *failure == self).map(|(_, outcome)| *outcome)
    }
}

impl ClientCert {
    /// The reason, where nothing is served for this.
    pub(crate) fn failure(self) -> Option<HandshakeFailure> {
        FOR_CLIENT_CERT.iter().find(|(_, outcome)| *outcome == self).map(|(failure, _)| *failure)
    }
}

reasons! {
    /// Deadlines towards clients.
    ClientTimeout {
        /// TLS handshake.
        Handshake = "handshake",
        /// Header of a request.
        Header = "header",
        /// No request, or no byte while one is open; without HTTP, no byte.
        Idle = "idle",
        /// What is sent to the client is taken too slowly.
        Send = "send",
        /// The connection is as old as it may be.
        Age = "age",
    }
}

reasons! {
    /// What came of a request's authorizer.
    AuthorizerOutcome {
        /// It may go on.
        Allowed = "allowed",
        /// It may not.
        Denied = "denied",
        /// Nobody could be asked, and it goes on.
        FailedOpen = "failed_open",
        /// Nobody could be asked, and it does not go on.
        FailedClosed = "failed_closed",
        /// It is the callout itself, come back.
        Loop = "loop",
    }
}

reasons! {
    /// How a kept answer was used.
    CacheUse {
        /// It was there.
        Hit = "hit",
        /// It was not, and was asked for.
        Miss = "miss",
        /// It was being asked for.
        Joined = "joined",
    }
}

reasons! {
    /// Why a callout had no answer.
    CalloutFailure {
        /// Not by the deadline.
        Timeout = "timeout",
        /// No backend may be chosen.
        NoBackend = "no_backend",
        /// No connection, or it broke.
        Broken = "broken",
        /// What the texts make of the request is no request.
        Question = "question",
    }
}
