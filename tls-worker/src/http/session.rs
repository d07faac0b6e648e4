//! Persistence of requests: what a client is known by is found in its request, the edge's own cookie taken out of it and
//! put into the answer.

use super::exchange::{Exchange, Facts, Head};
use crate::conn::Client;
use crate::persist::{self, By, Pin};
use crate::upstream::PoolView;
use http::{HeaderMap, HeaderValue, header, request};

/// Cookies of the edge's own name that are looked at; a client that has more made them up.
const MAX_COOKIES: usize = 4;

/// Where the client of a request was before. The edge's cookie goes no further.
pub(super) fn find(exchange: &Exchange, pool: &PoolView, parts: &mut request::Parts) -> Pin {
    let Some(pins) = &pool.pins else { return Pin::default() };
    match &pins.pinning.by {
        By::Cookie(cookie) => {
            let pin = Pin::by_cookie(pool, values(&parts.headers, &cookie.name).take(MAX_COOKIES));
            remove(&mut parts.headers, &cookie.name);
            pin
        }
        By::Source(..) => Pin::by_source(pool, exchange.client_ip()),
        By::AppCookie(name) => {
            let value = values(&parts.headers, name).find(|value| !value.is_empty());
            Pin::by_key(pool, value.map(|value| persist::key(value, true)))
        }
        By::Key(text, secret) => {
            let facts: Facts<'_> = exchange.facts(Head::from(&*parts));
            let value = text.value(&facts).filter(|value| !value.is_empty());
            Pin::by_key(pool, value.map(|value| persist::key(&value, *secret)))
        }
    }
}

/// What the client has to keep, and what the application had it keep.
pub(super) fn tell(pin: &Pin, client: &Client, headers: &mut HeaderMap) {
    if let Some(name) = pin.app_cookie() {
        let given = headers.get_all(header::SET_COOKIE).iter().filter_map(|field| pair(field.as_bytes(), name));
        for value in given.filter(|value| !value.is_empty()) {
            pin.learn(value);
        }
    }
    let set = pin.set_cookie(client.proto == "https");
    if let Some(value) = set.and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.append(header::SET_COOKIE, value);
    }
}

/// Values of the cookies of a name.
fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let fields = headers.get_all(header::COOKIE).into_iter();
    fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';')).filter_map(move |text| pair(text, name))
}

/// The value of `name=value`, up to a semicolon.
fn pair<'a>(text: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let text = text.split(|byte| *byte == b';').next()?.trim_ascii();
    let at = text.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (text[..at].trim_ascii_end(), text[at + 1..].trim_ascii());
    (key == name.as_bytes()).then_some(value)
}

/// Take the cookies of a name out; what is left stands as it stood.
fn remove(headers: &mut HeaderMap, name: &str) {
    if values(headers, name).next().is_none() {
        return;
    }
    let fields: Vec<HeaderValue> = headers.get_all(header::COOKIE).iter().cloned().collect();
    headers.remove(header::COOKIE);
    for field in fields {
        let others = field.as_bytes().split(|byte| *byte == b';').filter(|text| pair(text, name).is_none());
        let others: Vec<&[u8]> = others.map(<[u8]>::trim_ascii).filter(|text| !text.is_empty()).collect();
        if !others.is_empty()
            && let Ok(value) = HeaderValue::from_bytes(&others.join(&b"; "[..]))
        {
            headers.append(header::COOKIE, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cookies(fields: &[&str]) -> HeaderMap {
        fields.iter().map(|field| (header::COOKIE, HeaderValue::from_str(field).unwrap())).collect()
    }

    #[test]
    fn a_cookie_is_found_and_taken_out_wherever_it_stands() {
        let mut headers = cookies(&["a=1; sid=x; b=2", "sid=y", "notsid=3;sid = z ;c=\"4;d=5", "sid"]);
        assert_eq!(values(&headers, "sid").collect::<Vec<_>>(), [b"x", b"y", b"z"]);
        remove(&mut headers, "sid");
        let left: Vec<_> = headers.get_all(header::COOKIE).iter().collect();
        assert_eq!(left, ["a=1; b=2", "notsid=3; c=\"4; d=5", "sid"]);
        remove(&mut headers, "gone");
        assert_eq!(headers.get_all(header::COOKIE).iter().count(), 3);
    }

    proptest! {
        #[test]
        fn no_cookie_of_the_name_is_left(fields in prop::collection::vec("[a-c=; ]{0,20}", 0..4)) {
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            let mut headers = cookies(&fields);
            let others: Vec<_> = ["b", "c"].map(|name| values(&headers, name).map(<[u8]>::to_vec).collect::<Vec<_>>()).into();
            remove(&mut headers, "a");
            prop_assert_eq!(values(&headers, "a").count(), 0);
            let after: Vec<_> = ["b", "c"].map(|name| values(&headers, name).map(<[u8]>::to_vec).collect::<Vec<_>>()).into();
            prop_assert_eq!(others, after);
        }
    }
}
