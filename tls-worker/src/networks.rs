//! A set of networks that an address is looked up in.

use ipnet::IpNet;
use std::net::IpAddr;

/// Networks without overlap, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Networks(Vec<IpNet>);

impl Networks {
    pub(crate) fn new(networks: &[IpNet]) -> Self {
        let mut all = IpNet::aggregate(&networks.to_vec());
        all.sort_by_key(IpNet::network);
        Networks(all)
    }

    /// Whether the address is in one of them. A mapped IPv4 address is an IPv4 address.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let after = self.0.partition_point(|network| network.network() <= address);
        after.checked_sub(1).is_some_and(|before| self.0[before].contains(&address))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_families_and_mapped_addresses() {
        let all = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "2001:db8::/32"].map(|n| n.parse().unwrap());
        let all = Networks::new(&all);
        for (address, want) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("::ffff:192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(all.contains(address.parse().unwrap()), want, "{address}");
        }
        assert!(Networks::new(&[]).is_empty() && !Networks::default().contains([10, 0, 0, 1].into()));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_look_at_each(
            networks in prop::collection::vec((any::<[u8; 2]>(), 0u8..=16), 0..20),
            address: [u8; 2],
        ) {
            let net = |(start, bits): &([u8; 2], u8)| IpNet::new([start[0], start[1], 0, 0].into(), *bits).unwrap();
            let networks: Vec<IpNet> = networks.iter().map(net).collect();
            let address = IpAddr::from([address[0], address[1], 9, 9]);
            let want = networks.iter().any(|network| network.contains(&address));
            prop_assert_eq!(Networks::new(&networks).contains(address), want);
        }
    }
}
