//! `Accept-Encoding` (RFC 9110, 12.5.3).

use crate::api::Coding;
use http::HeaderValue;

/// The coding that a client takes best; among equals the first of `offered`. None: it takes none of them, or did not
/// say.
pub(super) fn best<'a>(fields: impl Iterator<Item = &'a HeaderValue>, offered: &[Coding]) -> Option<Coding> {
    // By place in `offered`: thousandths, none where nothing was said.
    let mut weights = [None::<u16>; 3];
    let mut any = None;
    let values = fields.filter_map(|field| field.to_str().ok());
    for item in values.flat_map(|value| value.split(',')) {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().unwrap_or("");
        let weight = parts.next().map_or(Some(1000), quality);
        let Some(weight) = weight else { continue };
        if name == "*" {
            any = Some(weight);
        }
        let named = |coding: &Coding| {
            name.eq_ignore_ascii_case(coding.name()) || (*coding == Coding::Gzip && name.eq_ignore_ascii_case("x-gzip"))
        };
        if let Some(place) = offered.iter().position(named).filter(|place| *place < weights.len()) {
            weights[place] = Some(weight);
        }
    }
    let weighted = offered.iter().zip(weights).map(|(coding, weight)| (weight.or(any).unwrap_or(0), *coding));
    let mut best: Option<(u16, Coding)> = None;
    for (weight, coding) in weighted.filter(|(weight, _)| *weight > 0) {
        if best.is_none_or(|(most, _)| weight > most) {
            best = Some((weight, coding));
        }
    }
    best.map(|(_, coding)| coding)
}

/// `q=0.5`, in thousandths (RFC 9110, 12.4.2). None: not understood, and so not taken.
fn quality(text: &str) -> Option<u16> {
    let (name, value) = text.split_once('=')?;
    let value = value.trim();
    let known = value.len() <= 5 && value.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let value: f32 = value.parse().ok().filter(|_| known && name.trim().eq_ignore_ascii_case("q"))?;
    (0.0..=1.0).contains(&value).then(|| (value * 1000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Coding; 3] = [Coding::Zstd, Coding::Br, Coding::Gzip];

    fn of(text: &str) -> Option<&'static str> {
        best([HeaderValue::from_str(text).unwrap()].iter(), &ALL).map(Coding::name)
    }

    #[test]
    fn the_best_that_both_know_is_taken() {
        for (text, want) in [
            ("", None),
            ("gzip", Some("gzip")),
            ("GZip, deflate", Some("gzip")),
            ("x-gzip", Some("gzip")),
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("gzip;q=1.0, br;q=0.5", Some("gzip")),
            ("gzip;q=0.5, br;q=0.50, zstd;q=0", Some("br")),
            ("*", Some("zstd")),
            ("*;q=0.1, zstd;q=0", Some("br")),
            ("*;q=0", None),
            ("identity", None),
            ("gzip;q=0", None),
            ("gzip;q=2", None),
            ("gzip;q=x", None),
            ("gzip; Q=0.001", Some("gzip")),
            ("deflate", None),
        ] {
            assert_eq!(of(text), want, "{text}");
        }
        assert_eq!(best([].into_iter(), &ALL), None);
        assert_eq!(best([HeaderValue::from_static("*")].iter(), &[]), None);
    }

    proptest! {
        #[test]
        fn what_a_client_refuses_it_never_gets(text in "((gzip|br|zstd|\\*)(;q=(0|0\\.5|1))?,){0,6}") {
            let got = of(&text);
            let last = |name: &str| text.split(',').rfind(|item| item.split(';').next() == Some(name));
            if let Some(item) = got.and_then(last) {
                prop_assert!(!item.ends_with("q=0"), "{} of {}", item, text);
            }
            prop_assert!(got.is_none() || text.contains(got.unwrap()) || text.contains('*'));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[ -~]{0,60}") {
            of(&text);
        }
    }
}
