//! What a client's chain is worth under a policy's rules, by webpki (RFC 5280, 6).
//!
//! webpki asks nothing of a root but its key: a root that has itself run out still vouches, until it is taken out of the
//! config.

use super::rules::ClientAuth;
use crate::api::{Der, ExpiredCrl};
use crate::tls::provider;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    EndEntityCert, Error, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder,
    UnknownStatusPolicy, VerifiedPath,
};

/// Most certificates that are looked at besides the client's own. Each may cost a signature's verification.
const MAX_BESIDES: usize = 16;

impl ClientAuth {
    /// Verify a certificate with what came besides it. On success its issuer.
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Der, Error> {
        if intermediates.len() > MAX_BESIDES {
            return Err(Error::MaximumPathDepthExceeded);
        }
        let leaf = EndEntityCert::try_from(leaf)?;
        let crls: Vec<_> = self.crls.iter().collect();
        let expiration = match self.expired_crl {
            ExpiredCrl::Deny => ExpirationPolicy::Enforce,
            ExpiredCrl::Allow => ExpirationPolicy::Ignore,
        };
        // It is an error to ask without lists.
        let revocation = RevocationOptionsBuilder::new(&crls).ok().map(|options| {
            let options = options.with_depth(RevocationCheckDepth::Chain).with_expiration_policy(expiration);
            options.with_status_policy(UnknownStatusPolicy::Allow).build()
        });
        let short_enough = |path: &VerifiedPath<'_>| match path.intermediate_certificates().count() > self.depth {
            true => Err(Error::MaximumPathDepthExceeded),
            false => Ok(()),
        };
        let path = leaf.verify_for_usage(
            provider::signature_algorithms().all,
            &self.anchors,
            intermediates,
            now,
            KeyUsage::client_auth(),
            revocation,
            Some(&short_enough),
        )?;
        if let Some(issuer) = path.intermediate_certificates().next() {
            return Ok(Der(issuer.der().to_vec()));
        }
        let anchor = self.anchors.iter().position(|anchor| std::ptr::eq(anchor, path.anchor()));
        anchor.and_then(|index| self.roots.get(index).cloned()).ok_or(Error::UnknownIssuer)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ca::{Ca, Leaf, hour};
    use super::super::fault::Fault;
    use super::super::tests::rules;
    use super::*;
    use crate::api::{ClientCertMode, ClientCertRules};

    /// The issuer.
    fn outcome(rules: &ClientCertRules, chain: &[&Vec<u8>]) -> Result<Vec<u8>, Fault> {
        let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let ready = ClientAuth::new(rules).unwrap();
        ready.verify(&chain[0], &chain[1..], UnixTime::now()).map(|issuer| issuer.0).map_err(|e| Fault::of(&e))
    }

    #[test]
    fn a_chain_is_good_or_has_a_fault_that_is_named() {
        let (ca, other) = (Ca::new("ca"), Ca::new("other"));
        let same_name = Ca::new("ca");
        let leaf = |change: fn(&mut Leaf)| ca.leaf(change);
        let good = leaf(|_| {});
        assert_eq!(outcome(&rules(&[&other, &ca]), &[&good]), Ok(ca.der.clone()));
        assert_eq!(outcome(&rules(&[&ca]), &[&leaf(|l| l.not_after = hour(-1))]), Err(Fault::Expired));
        assert_eq!(outcome(&rules(&[&ca]), &[&leaf(|l| l.not_before = hour(1))]), Err(Fault::Expired));
        assert_eq!(outcome(&rules(&[&other]), &[&good]), Err(Fault::UnknownCa));
        assert_eq!(outcome(&rules(&[&same_name]), &[&good]), Err(Fault::UnknownCa));
        assert_eq!(outcome(&rules(&[&ca]), &[&leaf(|l| l.for_servers = true)]), Err(Fault::Bad));
        assert_eq!(outcome(&rules(&[&ca]), &[&ca.der]), Err(Fault::Bad));
        assert_eq!(outcome(&rules(&[&ca]), &[&vec![0x30, 0]]), Err(Fault::Bad));
        let any = ClientCertRules { mode: ClientCertMode::OptionalAny, ..rules(&[]) };
        assert_eq!(outcome(&any, &[&good]), Err(Fault::UnknownCa));
    }

    #[test]
    fn as_many_certificates_stand_between_as_the_depth_says() {
        let root = Ca::new("root");
        let (one, two) = (root.below("one"), root.below("one").below("two"));
        let one_of_two = two.above[0].clone();
        let of_one = one.leaf(|_| {});
        let of_two = two.leaf(|_| {});
        for (depth, short, long) in [(0, false, false), (1, true, false), (2, true, true)] {
            let rules = ClientCertRules { depth, ..rules(&[&root]) };
            assert_eq!(outcome(&rules, &[&of_one, &one.der]).is_ok(), short, "{depth}");
            let got = outcome(&rules, &[&of_two, &one_of_two, &two.der]);
            assert_eq!(got, if long { Ok(two.der.clone()) } else { Err(Fault::Bad) }, "{depth}");
        }
        let rules = ClientCertRules { depth: 0, ..rules(&[&root]) };
        let direct = root.leaf(|_| {});
        assert_eq!(outcome(&rules, &[&direct]), Ok(root.der));
        // What is sent besides and not needed does no harm, but for too much of it.
        let mut chain = vec![&direct];
        chain.extend([&of_one; MAX_BESIDES]);
        assert!(outcome(&rules, &chain).is_ok());
        chain.push(&of_one);
        assert_eq!(outcome(&rules, &chain), Err(Fault::Bad));
    }

    #[test]
    fn lists_revoke_leaves_and_what_is_above_them() {
        let root = Ca::new("root");
        let (middle, other) = (root.below("middle"), Ca::new("other"));
        let leaf = middle.leaf(|l| l.serial = 77);
        let with = |crls: Vec<Vec<u8>>| {
            let crls = crls.into_iter().map(Der).collect();
            ClientCertRules { crls, ..rules(&[&root]) }
        };
        let chain = [&leaf, &middle.der];
        let (past, future) = (hour(-2), hour(2));
        assert!(outcome(&with(vec![middle.crl(&[76], past, future)]), &chain).is_ok());
        assert!(outcome(&with(vec![other.crl(&[77], past, future)]), &chain).is_ok());
        assert_eq!(outcome(&with(vec![middle.crl(&[76, 77], past, future)]), &chain), Err(Fault::Revoked));
        assert_eq!(outcome(&with(vec![root.crl(&[middle.serial], past, future)]), &chain), Err(Fault::Revoked));
        // Signed by nobody who may.
        let forged = Ca::new("middle").crl(&[77], past, future);
        assert_eq!(outcome(&with(vec![forged]), &chain), Err(Fault::Bad));
        for (expired_crl, serial, expected) in [
            (ExpiredCrl::Deny, 76, Some(Fault::CrlExpired)),
            (ExpiredCrl::Allow, 76, None),
            (ExpiredCrl::Allow, 77, Some(Fault::Revoked)),
        ] {
            let rules = ClientCertRules { expired_crl, ..with(vec![middle.crl(&[serial], past, hour(-1))]) };
            assert_eq!(outcome(&rules, &chain).err(), expected, "{expired_crl:?} {serial}");
        }
    }
}
