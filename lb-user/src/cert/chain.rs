//! Chains: which certificates of a heap lead from a leaf upwards, in what order, and which have nothing to do with it.

use super::facts;
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

/// A chain longer than this is no chain of a server (OpenSSL gives up at 100, browsers sooner).
const MAX_CHAIN: usize = 16;

/// A heap of certificates, put in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// DER, leaf first, each signed by the next; no root but where it is the leaf itself.
    pub certificates: Vec<Vec<u8>>,
    /// The root, where it was there. It is not sent: clients have it, or do not trust it.
    pub root: Option<Vec<u8>>,
    /// Subjects of what belongs to nothing in it.
    pub strangers: Vec<String>,
    /// Name of the issuer of the last certificate, where that one is no root and the issuer was not there.
    pub lacks: Option<Issuer>,
}

/// An issuer that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// For people.
    pub name: String,
    /// Of whom.
    pub of: String,
    /// DER of the name.
    pub raw: Vec<u8>,
}

impl Chain {
    /// The certificate that signed the leaf; none where it is its own issuer, or not there.
    pub fn issuer(&self) -> Option<&[u8]> {
        self.certificates.get(1).or(self.root.as_ref()).map(Vec::as_slice)
    }
}

/// Whether a certificate names itself as its issuer.
pub fn is_self_issued(der: &[u8]) -> bool {
    parse(der).is_some_and(|c| c.subject().as_raw() == c.issuer().as_raw())
}

/// Order a heap from the certificate at `leaf` on. Certificates that cannot be read belong to nothing.
pub fn order(heap: &[Vec<u8>], leaf: usize) -> Chain {
    let parsed: Vec<Option<X509Certificate<'_>>> = heap.iter().map(|der| parse(der)).collect();
    let mut used = vec![false; heap.len()];
    let mut path: Vec<usize> = Vec::new();
    let mut chain = Chain::default();
    let mut next = Some(leaf).filter(|leaf| *leaf < heap.len());
    while let Some(at) = next.take() {
        used[at] = true;
        path.push(at);
        let Some(current) = &parsed[at] else { break };
        if current.subject().as_raw() == current.issuer().as_raw() || path.len() > MAX_CHAIN {
            break;
        }
        let candidate = |(i, c): &(usize, &Option<X509Certificate<'_>>)| {
            !used[*i] && c.as_ref().is_some_and(|c| issued(c, current)) && heap[*i] != heap[at]
        };
        // Where an authority's certificate was renewed, both are there: the one that lives longer serves longer.
        let longest = |(_, c): &(usize, &Option<X509Certificate<'_>>)| {
            c.as_ref().map_or(0, |c| c.validity().not_after.timestamp())
        };
        next = parsed.iter().enumerate().filter(candidate).max_by_key(longest).map(|(i, _)| i);
        if next.is_none() {
            chain.lacks = Some(Issuer {
                name: facts::name(current.issuer()),
                of: facts::name(current.subject()),
                raw: current.issuer().as_raw().to_vec(),
            });
        }
    }
    let again = |i: usize| path.iter().any(|at| heap[*at] == heap[i]);
    let stranger = |i: &usize| !used[*i] && !again(*i);
    let name = |i: usize| parsed[i].as_ref().map_or("(unreadable)".into(), |c| facts::name(c.subject()));
    chain.strangers = (0..heap.len()).filter(stranger).map(name).collect();
    chain.certificates = path.iter().map(|at| heap[*at].clone()).collect();
    if chain.certificates.len() > 1 && chain.certificates.last().is_some_and(|last| is_self_issued(last)) {
        chain.root = chain.certificates.pop();
    }
    chain
}

/// Where a chain begins when no key tells: the first certificate that issued no other of the heap.
pub fn likely_leaf(heap: &[Vec<u8>]) -> usize {
    let parsed: Vec<Option<X509Certificate<'_>>> = heap.iter().map(|der| parse(der)).collect();
    let issuer_of_another = |i: usize| {
        let Some(one) = &parsed[i] else { return true };
        let others = parsed.iter().enumerate().filter(|(j, _)| *j != i && heap[*j] != heap[i]);
        others.filter_map(|(_, other)| other.as_ref()).any(|other| issued(one, other))
    };
    (0..heap.len()).find(|i| !issuer_of_another(*i)).unwrap_or(0)
}

/// By name, and where both say it by key identifier (RFC 5280, 4.2.1.1): an authority may have had several keys.
fn issued(issuer: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    if issuer.subject().as_raw() != certificate.issuer().as_raw() {
        return false;
    }
    let wanted = certificate.iter_extensions().find_map(|e| match e.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    });
    let is = issuer.iter_extensions().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    });
    match (wanted, is) {
        (Some(wanted), Some(is)) => wanted == is,
        _ => true,
    }
}

fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Authority, der};
    use super::*;
    use proptest::prelude::*;

    /// Root, intermediate, leaf.
    fn family() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let root = Authority::root("Root");
        let middle = root.under("Middle");
        (der(&root.certificate), der(&middle.certificate), der(&middle.leaf(&["www.test"]).0))
    }

    #[test]
    fn any_order_becomes_leaf_first_without_the_root() {
        let (root, middle, leaf) = family();
        for heap in [[&leaf, &middle, &root], [&root, &middle, &leaf], [&middle, &leaf, &root]] {
            let heap: Vec<Vec<u8>> = heap.into_iter().cloned().collect();
            let chain = order(&heap, likely_leaf(&heap));
            assert_eq!(chain.certificates, [leaf.clone(), middle.clone()]);
            assert_eq!((chain.root.as_ref(), chain.lacks.clone()), (Some(&root), None));
            assert_eq!((chain.issuer(), chain.strangers.len()), (Some(&middle[..]), 0));
        }
    }

    #[test]
    fn what_is_missing_and_what_is_too_much_are_named() {
        let (root, middle, leaf) = family();
        let chain = order(&[leaf.clone(), root.clone(), leaf.clone()], 0);
        assert_eq!(chain.certificates, std::slice::from_ref(&leaf));
        let lacks = chain.lacks.unwrap();
        assert_eq!((lacks.name.as_str(), lacks.of.as_str()), ("CN=Middle", "CN=www.test"));
        assert_eq!(chain.strangers, ["CN=Root"]);
        let chain = order(&[leaf, middle, b"nothing".to_vec()], 0);
        assert_eq!((chain.lacks.unwrap().name.as_str(), chain.strangers), ("CN=Root", vec!["(unreadable)".into()]));
        let own = order(std::slice::from_ref(&root), 0);
        assert_eq!((own.certificates, own.root, own.lacks), (vec![root], None, None));
    }

    #[test]
    fn of_two_authorities_of_one_name_the_right_one_is_taken() {
        let (one, two) = (Authority::root("Same"), Authority::root("Same"));
        let (leaf, _) = two.leaf(&["www.test"]);
        let heap = [der(&one.certificate), der(&leaf), der(&two.certificate)];
        let chain = order(&heap, 1);
        assert_eq!((chain.certificates, chain.root), (vec![heap[1].clone()], Some(heap[2].clone())));
        assert_eq!(chain.strangers, ["CN=Same"]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_in_any_heap(picks in prop::collection::vec(0usize..4, 0..8), leaf in 0usize..9) {
            let (root, middle, www) = family();
            let all = [root, middle, www, b"no certificate".to_vec()];
            let heap: Vec<Vec<u8>> = picks.iter().map(|i| all[*i].clone()).collect();
            let chain = order(&heap, leaf);
            let kept = chain.certificates.len() + usize::from(chain.root.is_some());
            prop_assert!(kept + chain.strangers.len() <= heap.len());
            prop_assert_eq!(chain.certificates.first(), heap.get(leaf));
        }
    }
}
