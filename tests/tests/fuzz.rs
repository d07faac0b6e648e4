//! What reads bytes is fuzzed here: a short random run with each `cargo test` from the seeds in
//! `__fuzz__/TARGET/corpus`, and as long as one likes by `cargo bolero test -p lb-tests --test fuzz TARGET`.

use std::io::Write as _;

use lb_user::cert::{Facts, blocks::blocks, chain, pair};
use lb_user::ocsp::{Question, check_response};
use tls_worker::api::http1::guard_requests;
use tls_worker::api::routes::{Sample, find};
use tls_worker::api::sessions::open_session_cookie;
use tls_worker::api::tls::{HelloReader, HelloStep, client_cert_value, client_hello};
use tls_worker::api::vars::Template;
use tls_worker::api::{ALL_CLIENT_CERT_FIELDS, Command, Der, Event, PathMatch, Route, Secret, TextMatch, wire};

/// The control socket: whatever bytes arrive, the receiver ends with a message or an error, never a panic, and
/// never takes more memory than what arrived.
#[test]
fn control_socket_frames() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    bolero::check!().for_each(|input: &[u8]| {
        runtime.block_on(async {
            let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
            far.set_nonblocking(true).unwrap();
            // What does not fit the socket's buffer is cut: the end of the stream is a case of its own.
            let _ = (&near).write(input);
            drop(near);
            let (_, mut receiver) = wire::split(tokio::net::UnixStream::from_std(far).unwrap());
            while receiver.receive::<Command>().await.is_ok() {}
        });
    });
}

/// The text of a message, as either side may send it.
#[test]
fn control_messages() {
    bolero::check!().for_each(|input: &[u8]| {
        if let Ok(command) = serde_json::from_slice::<Command>(input) {
            let text = serde_json::to_vec(&command).unwrap();
            serde_json::from_slice::<Command>(&text).unwrap();
        }
        let _ = serde_json::from_slice::<Event>(input);
    });
}

/// A config file: any text ends with a model or with problems that can be shown, never a panic.
#[test]
fn config_text() {
    let host = lb_user::config::Host::this();
    let path = std::path::Path::new("fuzz.toml");
    bolero::check!().for_each(|input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        if let Err(lb_user::config::LoadError::Invalid(problems)) = lb_user::config::parse(&text, path, &host) {
            assert!(problems.has_errors());
            assert!(!problems.render(false).is_empty());
        }
    });
}

/// Another product's config: any text ends with one that is TOML, and with notes about lines that it has.
#[test]
fn netscaler_config() {
    let host = lb_user::config::Host::this();
    let path = std::path::Path::new("fuzz.toml");
    bolero::check!().for_each(|input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let imported = lb_user::import::netscaler(&text);
        assert!(imported.notes.iter().all(|note| note.line <= text.lines().count()), "{:?}", imported.notes);
        if let Err(lb_user::config::LoadError::Invalid(problems)) = lb_user::config::parse(&imported.toml, path, &host)
        {
            // What it names may be missing, or not as Bailey wants it; a key that Bailey has not is never written.
            let said = problems.to_string();
            let unlike = ["unknown key", "is not TOML", "expected a"].iter().any(|words| said.contains(words));
            assert!(!unlike, "{said}\n{}", imported.toml);
        }
    });
}

/// A cookie that sends its client to a backend: none but those that were sealed say anything.
#[test]
fn session_cookie() {
    const GOOD: &[u8] = include_bytes!("__fuzz__/session_cookie/corpus/good");
    let keys = [Secret::new(vec![7; 48])];
    let opened = |value: &[u8]| open_session_cookie(&keys, "app", "sid", value, 1_800_000_000);
    assert_eq!(opened(GOOD), Some(([192, 0, 2, 10], 8080).into()));
    bolero::check!().for_each(|input: &[u8]| assert!(opened(input).is_none() || input == GOOD));
}

/// A file of denied prefixes: any bytes end with prefixes that can be written and read again, and with a bounded list
/// of what is wrong.
#[test]
fn prefix_file() {
    bolero::check!().for_each(|input: &[u8]| {
        let (found, wrong) = lb_user::config::prefix_file(input);
        assert!(found.len() <= input.split(|byte| *byte == b'\n').count() && wrong.len() <= 11);
        let text: String = found.iter().map(|network| format!("{network}\n")).collect();
        assert_eq!(lb_user::config::prefix_file(text.as_bytes()), (found, Vec::new()));
    });
}

/// The first bytes of a connection that may begin with a PROXY header: however they are cut, the reader says the same, and a
/// header ends within them.
#[test]
fn proxy_header() {
    use tls_worker::api::edge::{Read, read};
    const MAX: usize = 4096;
    bolero::check!().for_each(|input: &[u8]| {
        let whole = read(input, MAX);
        if let Read::Header(_, length) = whole {
            assert!(length <= input.len() && length <= MAX.max(107));
            assert_eq!(read(&input[..length], MAX), whole);
        }
        for cut in 0..input.len().min(MAX) {
            let part = read(&input[..cut], MAX);
            assert!(part == Read::NeedMore || part == whole, "{cut}: {part:?}, {whole:?}");
        }
    });
}

/// What proxies say of the addresses in front of them: whatever it is, whoever appends to it has the last word.
#[test]
fn forwarded_chain() {
    use tls_worker::api::edge::hops;
    let client: std::net::IpAddr = [192, 0, 2, 1].into();
    bolero::check!().for_each(|input: &[u8]| {
        for (forwarded, added) in
            [(false, &b", 192.0.2.1"[..]), (true, b", for=192.0.2.1"), (true, b", for=\"192.0.2.1:80\"")]
        {
            let found = hops(forwarded, &[input, added].concat());
            assert_eq!(found.last(), Some(&Some(client)), "{}", input.escape_ascii());
        }
    });
}

/// What a client of a passthrough service sends first: whatever it is and however it is cut, the reader ends, with the same
/// word, and a name that it gives is one that routes can have.
#[test]
fn client_hello_bytes() {
    const MAX: usize = 16 << 10;
    bolero::check!().for_each(|input: &[u8]| {
        let whole = client_hello(input, MAX);
        let mut reader = HelloReader::new(MAX);
        let mut step = HelloStep::NeedMore;
        for byte in input {
            step = reader.feed(std::slice::from_ref(byte));
            if !matches!(step, HelloStep::NeedMore) {
                break;
            }
        }
        match (&whole, &step) {
            (HelloStep::Hello(a), HelloStep::Hello(b)) => {
                assert_eq!((&a.sni, &a.alpn), (&b.sni, &b.alpn));
                let good = |name: &str| name.len() <= 253 && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
                assert!(a.sni.as_deref().is_none_or(good), "{:?}", a.sni);
            }
            (HelloStep::Hello(_), _) | (_, HelloStep::Hello(_)) => panic!("{whole:?} at once, {step:?} byte by byte"),
            _ => {}
        }
    });
}

/// Files of certificates and keys: any bytes end with objects or with an error that says something.
#[test]
fn certificate_files() {
    bolero::check!().for_each(|input: &[u8]| {
        if let Err(error) = blocks(input) {
            assert!(!error.to_string().is_empty());
        }
        if let Err(error) = pair::from_files(input, input) {
            assert!(!error.to_string().is_empty() && !error.remedy().is_empty());
        }
        let _ = Facts::of(input);
        let ordered = chain::order(&[input.to_vec(), input[input.len() / 2..].to_vec()], 0);
        assert!(!ordered.certificates.is_empty());
    });
}

/// A PKCS#12 archive, with its password and with another.
#[test]
fn pkcs12_file() {
    bolero::check!().for_each(|input: &[u8]| {
        for password in [Some("x"), Some("other"), None] {
            if let Err(error) = pair::from_pkcs12(input, password) {
                assert!(!error.to_string().is_empty() && !error.remedy().is_empty());
            }
        }
    });
}

/// What a responder answers: no bytes but those that the issuer signed say anything.
#[test]
fn ocsp_response() {
    const GOOD: &[u8] = include_bytes!("__fuzz__/ocsp_response/corpus/good");
    const REVOKED: &[u8] = include_bytes!("__fuzz__/ocsp_response/corpus/revoked");
    let issuer = include_bytes!("__fuzz__/ocsp_response/issuer.der");
    let leaf = include_bytes!("__fuzz__/ocsp_response/leaf.der");
    let question = Question::new(issuer, leaf).unwrap();
    // When the seeds were made, so that they are in time for ever.
    let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_795_600_000);
    let said = [GOOD, REVOKED].map(|seed| check_response(seed, &question, None, now).unwrap());
    bolero::check!().for_each(|input: &[u8]| {
        if let Ok(told) = check_response(input, &question, None, now) {
            assert!(said.contains(&told), "{told:?}, which the issuer never signed");
        }
    });
}

/// A client's certificate, told to a backend: whatever it holds, each header is one line of printable ASCII.
#[test]
fn client_certificate() {
    bolero::check!().for_each(|input: &[u8]| {
        for field in ALL_CLIENT_CERT_FIELDS {
            let told = client_cert_value(field, &[Der(input.to_vec()), Der(input.to_vec())]).unwrap_or_default();
            assert!(told.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{field:?}: {told:?}");
        }
    });
}

/// A text with variables: any text is read, or what is wrong has a place in it and a remedy.
#[test]
fn text_with_variables() {
    bolero::check!().for_each(|input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        match Template::parse(&text) {
            Ok(template) => {
                let plain = template.constant().map(|plain| plain.replace('$', "$$"));
                assert!(plain.is_none_or(|plain| plain == *text));
            }
            Err(error) => {
                assert!(text.get(error.at.clone()).is_some(), "{error:?}");
                assert!(!error.problem.is_empty() && !error.help.is_empty());
            }
        }
    });
}

/// Which route takes a request: lines of `METHOD HOST PATH QUERY` asked of a site of every kind of match. Whatever is asked
/// for, one is found, the same every time, and a prefix takes nothing that lies beside it.
#[test]
fn route_matcher() {
    let route = |path, hosts: &[&str]| Route {
        hosts: hosts.iter().map(|host| host.to_string()).collect(),
        path,
        ..Route::default()
    };
    let field = |name: &str, is| tls_worker::api::FieldMatch { name: name.into(), is };
    let routes = [
        route(PathMatch::Exact("/a".into()), &["a.test"]),
        route(PathMatch::Prefix("/a/b".into()), &["a.test", "*.test"]),
        route(PathMatch::Regex("^/([a-z]+/)*[0-9]+$".into()), &["*.test"]),
        Route { query: vec![field("q", TextMatch::Regex("^(a|b)*c$".into()))], ..route(PathMatch::Any, &[]) },
        Route { headers: vec![field("x-q", TextMatch::Contains("=".into()))], ..route(PathMatch::Any, &["*.b.test"]) },
        Route { methods: vec!["POST".into()], ..route(PathMatch::Any, &[]) },
        route(PathMatch::Any, &[]),
    ];
    bolero::check!().for_each(|input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        for line in text.lines().take(16) {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap_or_default().to_owned();
            let (method, host, path, query) = (word(), word(), word(), word());
            let headers = vec![("X-Q".to_owned(), query.clone())];
            let client = std::net::IpAddr::from([192, 0, 2, 1]);
            let asked = Sample { host, method, path, query: Some(query), headers, client, sni: None };
            let Ok(found) = find(&routes, &asked) else { continue };
            assert_eq!(Ok(found), find(&routes, &asked));
            assert!(found.is_some());
            if found == Some(1) {
                assert!(asked.path == "/a/b" || asked.path.starts_with("/a/b/"), "{asked:?}");
            }
        }
    });
}

/// What a client sends over HTTP/1.1: in whatever portions it comes, the same passes, and hyper's parser finds as many
/// requests in it as the guard did.
#[test]
fn http1_requests() {
    bolero::check!().for_each(|input: &[u8]| {
        let whole = guard_requests(input, input.len());
        for portion in [1, 7] {
            assert_eq!(guard_requests(input, portion), whole);
        }
        let (passed, heads, _) = whole;
        assert_eq!(requests(&passed), heads, "{}", String::from_utf8_lossy(&passed));
    });
}

/// How many headers stand in these bytes, the last body perhaps cut.
fn requests(mut bytes: &[u8]) -> u64 {
    let mut count = 0;
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        let Ok(httparse::Status::Complete(n)) = request.parse(bytes) else { return count };
        count += 1;
        let target = request.path.expect("a whole request has one");
        assert!(target.parse::<http::Uri>().is_ok() || target.is_ascii(), "{target}");
        let field = |name: &str| request.headers.iter().find(|f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value);
        let chunked = field("transfer-encoding").is_some();
        let length = field("content-length").map_or(0, |text| {
            let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            number.expect("digits alone pass")
        });
        assert!(!(chunked && field("content-length").is_some()));
        bytes = &bytes[n..];
        let body = if chunked { chunks(bytes) } else { Some(length) };
        let Some(rest) = body.and_then(|n| bytes.get(n..)) else { return count };
        bytes = rest;
    }
}

/// Length of a chunked body, if it is whole.
fn chunks(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let Ok(httparse::Status::Complete((n, size))) = httparse::parse_chunk_size(bytes.get(at..)?) else {
            return None;
        };
        at += n;
        if size == 0 {
            break;
        }
        at = at.checked_add(usize::try_from(size).ok()?)?.checked_add(2)?;
    }
    let mut trailers = [httparse::EMPTY_HEADER; 64];
    match httparse::parse_headers(bytes.get(at..)?, &mut trailers) {
        Ok(httparse::Status::Complete((n, _))) => Some(at + n),
        _ => None,
    }
}

/// The journal of the state directory: whatever lies there, it is read to the last good line, and what is read can be
/// written and is read the same.
#[test]
fn journal_bytes() {
    bolero::check!().for_each(|input: &[u8]| {
        let found = lb_user::state::read(input);
        assert!(found.good <= input.len());
        if found.other.is_none() {
            assert_eq!(found.damage.is_none(), found.good == input.len());
            let again = lb_user::state::read(&input[..found.good]);
            assert!(again.damage.is_none() && again.history == found.history && again.ids == found.ids);
        }
    });
}

/// What backends answer health checks with: whatever it is, a check ends with a finding, and what is not whole is waited for.
#[test]
fn health_answers() {
    use lb_user::config::DnsProbe;
    use lb_user::health::probe::answers::{Search, dns, grpc, ldap};
    const LDAP: &[u8] = include_bytes!("__fuzz__/health_answers/corpus/ldap-bind");
    const DNS: &[u8] = include_bytes!("__fuzz__/health_answers/corpus/dns-a");
    let probe = |expect: Option<&str>| DnsProbe {
        tcp: false,
        name: "app.test".into(),
        record: "A".into(),
        expect: expect.map(str::to_owned),
    };
    assert_eq!(ldap(LDAP), Some((true, "LDAP bind".into())));
    assert!(dns(DNS, 0x1234, &probe(Some("192.0.2.7"))).unwrap().0);
    bolero::check!().for_each(|input: &[u8]| {
        if let Some(answer) = ldap(input) {
            // More bytes behind a message change nothing.
            assert_eq!(ldap(&[input, b"\x30\x00"].concat()), Some(answer));
        }
        let _ = (dns(input, 0x1234, &probe(None)), grpc(Some(b"0"), input), grpc(Some(input), b""));
        let mut search = Search::new(b"needle");
        input.chunks(3).for_each(|part| search.take(part));
        assert_eq!(search.found(), input.windows(6).any(|window| window == b"needle"));
    });
}
