//! Which answers are touched.

use super::*;
use crate::api::ALL_CODINGS;

fn rules() -> Compression {
    Compression {
        codings: ALL_CODINGS.into(),
        types: vec!["text/*".into(), "application/json".into()],
        min_size: 10,
        at_once: 2,
    }
}

const TEXT: &str = "long enough to be worth it";

fn answer(status: u16, fields: &[(&'static str, &'static str)], body: &'static str) -> Response<ResponseBody> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(if body.is_empty() { ResponseBody::empty() } else { ResponseBody::text(body) }).unwrap()
}

#[test]
fn only_what_may_and_should_be_is_compressed() {
    let html = ("content-type", "text/html; charset=utf-8");
    for (want, status, fields, body) in [
        (true, 200, vec![html], TEXT),
        (true, 404, vec![html], TEXT),
        (true, 200, vec![("content-type", "Application/JSON")], TEXT),
        (true, 200, vec![html, ("content-encoding", "identity")], TEXT),
        (true, 200, vec![html, ("cache-control", "private, max-age=1")], TEXT),
        (false, 200, vec![html], "short"),
        (false, 200, vec![html], ""),
        (false, 200, vec![], TEXT),
        (false, 200, vec![("content-type", "image/png")], TEXT),
        (false, 200, vec![("content-type", "application/jsonp")], TEXT),
        (false, 200, vec![("content-type", "text")], TEXT),
        (false, 206, vec![html], TEXT),
        (false, 204, vec![html], ""),
        (false, 304, vec![html], ""),
        (false, 200, vec![html, ("content-range", "bytes 0-9/100")], TEXT),
        (false, 200, vec![html, ("content-encoding", "gzip")], TEXT),
        (false, 200, vec![html, ("content-encoding", "identity, br")], TEXT),
        (false, 200, vec![html, ("cache-control", "max-age=1, No-Transform")], TEXT),
        (false, 200, vec![html, ("content-md5", "x")], TEXT),
        (false, 200, vec![html, ("repr-digest", "x")], TEXT),
    ] {
        assert_eq!(may(&rules(), &answer(status, &fields, body)), want, "{status} {fields:?} {body}");
    }
}

#[test]
fn headers_tell_what_became_of_the_body() {
    let mut headers = HeaderMap::new();
    headers.insert(header::ETAG, HeaderValue::from_static("\"a\""));
    weaken(&mut headers);
    assert_eq!(headers[header::ETAG], "W/\"a\"");
    weaken(&mut headers);
    assert_eq!(headers[header::ETAG], "W/\"a\"");
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    vary(&mut headers);
    vary(&mut headers);
    assert_eq!(headers.get_all(header::VARY).iter().collect::<Vec<_>>(), ["origin", "accept-encoding"]);
    let mut all = HeaderMap::new();
    all.insert(header::VARY, HeaderValue::from_static("*"));
    vary(&mut all);
    assert_eq!(all.get_all(header::VARY).iter().count(), 1);
}

#[test]
fn a_client_that_does_not_ask_gets_nothing_compressed() {
    let mut headers = HeaderMap::new();
    let wish = |headers: &HeaderMap, method, version| Wish::of(Some(&rules()), &method, version, headers).coding;
    assert_eq!(wish(&headers, Method::GET, Version::HTTP_11), None);
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("br"));
    assert_eq!(wish(&headers, Method::GET, Version::HTTP_11), Some(Coding::Br));
    assert_eq!(wish(&headers, Method::GET, Version::HTTP_2), Some(Coding::Br));
    assert_eq!(wish(&headers, Method::GET, Version::HTTP_10), None);
    assert_eq!(wish(&headers, Method::HEAD, Version::HTTP_11), None);
    assert_eq!(Wish::of(None, &Method::GET, Version::HTTP_11, &headers).coding, None);
}
