//! Chains of proxies: who is believed, what is told.

use super::*;
use proptest::prelude::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn rules(change: impl FnOnce(&mut api::Forwarding)) -> Forwarding {
    let trusted_proxies = ["10.0.0.0/8", "2001:db8:ffff::/48"].map(|n| n.parse().unwrap()).to_vec();
    let mut from = api::Forwarding { trusted_proxies, ..api::Forwarding::default() };
    change(&mut from);
    Forwarding::new(&from).unwrap()
}

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| (name.parse().unwrap(), value.parse().unwrap());
    fields.iter().map(field).collect::<Vec<(HeaderName, HeaderValue)>>().into_iter().fold(
        HeaderMap::new(),
        |mut map, (name, value)| {
            map.append(name, value);
            map
        },
    )
}

#[test]
fn the_client_is_the_last_address_that_no_trusted_proxy_is() {
    let rules = rules(|_| {});
    for (fields, client, chain) in [
        (&["192.0.2.1"][..], Some("192.0.2.1"), 1),
        // Whoever says that the client is 203.0.113.9, is no proxy of ours.
        (&["203.0.113.9, 192.0.2.1"], Some("192.0.2.1"), 1),
        (&["203.0.113.9, 192.0.2.1, 10.1.2.3"], Some("192.0.2.1"), 2),
        (&["203.0.113.9", "192.0.2.1 , 10.1.2.3"], Some("192.0.2.1"), 2),
        (&["10.9.9.9, 10.1.2.3"], Some("10.9.9.9"), 2),
        (&["192.0.2.1:4711"], Some("192.0.2.1"), 1),
        (&["[2001:db8::1]:4711, ::ffff:10.1.2.3"], Some("2001:db8::1"), 2),
        (&["2001:db8::1"], Some("2001:db8::1"), 1),
        (&["192.0.2.1, unknown, 10.1.2.3"], Some("10.1.2.3"), 1),
        (&["192.0.2.1, unknown"], None, 0),
        (&[""], None, 0),
        (&[], None, 0),
    ] {
        let fields: Vec<_> = fields.iter().map(|value| ("x-forwarded-for", *value)).collect();
        let told = hear(&rules, ip("10.0.0.1"), &headers(&fields)).unwrap();
        assert_eq!((told.client(), told.chain.len()), (client.map(ip), chain), "{fields:?}");
    }
    assert_eq!(hear(&rules, ip("192.0.2.66"), &headers(&[("x-forwarded-for", "192.0.2.1")])), None);
}

#[test]
fn forwarded_is_read_as_its_rfc_has_it() {
    for (field, want) in [
        ("for=192.0.2.43", &[Some("192.0.2.43")][..]),
        ("For=\"[2001:db8:cafe::17]:4711\"", &[Some("2001:db8:cafe::17")]),
        ("for=192.0.2.60;proto=http;by=203.0.113.43", &[Some("192.0.2.60")]),
        ("for=192.0.2.43, for=198.51.100.17", &[Some("192.0.2.43"), Some("198.51.100.17")]),
        ("for=192.0.2.43,for=\"[2001:db8::1]\";host=\"a, for=1.1.1.1\"", &[Some("192.0.2.43"), Some("2001:db8::1")]),
        ("host=\"\\\", for=1.1.1.1\";for=192.0.2.1", &[Some("192.0.2.1")]),
        ("for=_hidden, for=unknown", &[None, None]),
        ("by=192.0.2.1", &[None]),
        ("for=192.0.2.1;for=192.0.2.2", &[None]),
        ("for=\"192.0.2.1", &[None]),
        ("for", &[None]),
        (" , ,", &[]),
    ] {
        let want: Vec<_> = want.iter().map(|text| text.map(ip)).collect();
        assert_eq!(hops(true, field.as_bytes()), want, "{field}");
    }
}

#[test]
fn what_else_a_proxy_says_is_taken_when_it_can_be() {
    let rules = rules(|rules| rules.request_id_header = Some("x-request-id".into()));
    let said = |fields: &[(&str, &str)]| *hear(&rules, ip("2001:db8:ffff::1"), &headers(fields)).unwrap();
    let good = said(&[
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "a.test:8443"),
        ("x-forwarded-port", "8443"),
        ("x-request-id", "abc-1"),
    ]);
    let text = |value: &Option<HeaderValue>| value.as_ref().map(|v| v.to_str().unwrap().to_owned());
    assert_eq!(
        [&good.proto, &good.host, &good.port, &good.id].map(text),
        ["https", "a.test:8443", "8443", "abc-1"].map(|t| Some(t.to_owned()))
    );
    let long = "x".repeat(MAX_ID + 1);
    assert_eq!(
        said(&[
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-host", "a b"),
            ("x-forwarded-port", "99999"),
            ("x-request-id", &long),
        ]),
        Told::default()
    );
    assert_eq!(said(&[("x-forwarded-proto", "http"), ("x-forwarded-proto", "https")]), Told::default());
}

#[test]
fn a_chain_is_told_in_both_ways() {
    let (host, proto) = (HeaderValue::from_static("a.test"), HeaderValue::from_static("https"));
    let chain = [ip("2001:db8::1"), ip("10.1.2.3")];
    let peer = ip("10.0.0.1");
    assert_eq!(list(&chain, peer).unwrap(), "2001:db8::1, 10.1.2.3, 10.0.0.1");
    assert_eq!(list(&[], peer), None);
    let told = forwarded(&chain, peer, &host, &proto).unwrap();
    assert_eq!(told, "for=\"[2001:db8::1]\";host=\"a.test\";proto=https, for=10.1.2.3, for=10.0.0.1");
    assert_eq!(hops(true, told.as_bytes()), [Some(chain[0]), Some(chain[1]), Some(peer)]);
    assert_eq!(forwarded(&[], peer, &host, &proto).unwrap(), "for=10.0.0.1;host=\"a.test\";proto=https");
}

proptest! {
    /// Whatever clients write ahead of what the proxies add, the client is who the proxies saw.
    #[test]
    fn nobody_can_lie_about_the_address_that_the_proxies_saw(
        lie in "[ -~]{0,60}",
        proxies in prop::collection::vec(any::<[u8; 3]>(), 0..5),
        forwarded: bool,
    ) {
        let client = ip("192.0.2.1");
        let chain = [client].into_iter().chain(proxies.iter().map(|[a, b, c]| IpAddr::from([10, *a, *b, *c])));
        let (name, said): (&str, Vec<String>) = match forwarded {
            true => ("forwarded", chain.map(|address| format!("for={address}")).collect()),
            false => ("x-forwarded-for", chain.map(|address| address.to_string()).collect()),
        };
        let rules = rules(|rules| rules.address_header = name.into());
        // Proxies add a line of their own, as most do, or go on with the one that is there.
        let apart = headers(&[(name, lie.trim()), (name, &said.join(", "))]);
        prop_assert_eq!(hear(&rules, ip("10.0.0.1"), &apart).unwrap().client(), Some(client));
        let together = headers(&[(name, &format!("{}, {}", lie.trim(), said.join(", ")))]);
        prop_assert_eq!(hear(&rules, ip("10.0.0.1"), &together).unwrap().client(), Some(client));
    }
}
