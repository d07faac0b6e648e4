//! What became of a packet, and why. One list for the kernel, the metrics and the docs.

macro_rules! verdicts {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $action:ident;)+) => {
        /// The end of a packet in `edge`. Its name is the metric's label `verdict`.
        #[must_use = "every exit goes through finish(), which counts it"]
        #[repr(u32)]
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Verdict { $($(#[doc = $doc])+ $name,)+ }

        impl Verdict {
            /// All, in the order of their numbers.
            pub const ALL: &'static [Verdict] = &[$(Verdict::$name,)+];
            /// How many there are.
            pub const COUNT: u32 = Self::ALL.len() as u32;

            /// The name in metrics and docs.
            pub const fn name(self) -> &'static str {
                match self { $(Verdict::$name => $text,)+ }
            }

            /// What XDP does with the packet.
            pub const fn action(self) -> Action {
                match self { $(Verdict::$name => Action::$action,)+ }
            }

            /// One sentence for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(Verdict::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

/// What XDP does with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// To the stack, unchanged.
    Pass,
    /// To the stack, on another CPU.
    Redirect,
    /// Nowhere.
    Drop,
}

verdicts! {
    /// Neither IPv4 nor IPv6 (ARP, LLDP, more than two VLAN tags).
    NotIp = "not_ip", Pass;
    /// The destination address belongs to no service.
    NotVip = "not_vip", Pass;
    /// A service's address, but a port or protocol of no service.
    NoService = "no_service", Pass;
    /// ICMP or ICMPv6 to a service's address that is about no other packet (echo, neighbour discovery).
    Icmp = "icmp", Pass;
    /// A fragment for a service's address, first or later; the stack puts it together.
    Fragment = "fragment", Pass;
    /// For a service's address, but only on the way elsewhere: an IPv6 routing header with segments left.
    SegmentsLeft = "segments_left", Pass;
    /// Steered, and already on its worker's CPU.
    SteerLocal = "steer_local", Pass;
    /// Steered to its worker's CPU through the cpumap.
    SteerRedirect = "steer_redirect", Redirect;
    /// Left on the CPU that the NIC chose (`rss`).
    SteerRss = "steer_rss", Pass;
    /// No worker stands behind the slot, or its CPU is no redirect target; the stack decides.
    NoWorker = "no_worker", Pass;
    /// An ICMP error about a flow of a service, sent where the flow goes.
    IcmpErrorSteer = "icmp_error_steer", Redirect;
    /// An ICMP error about a flow of a service, already where the flow goes, or left where the NIC put it (`rss`).
    IcmpErrorLocal = "icmp_error_local", Pass;
    /// An ICMP error to a service's address about a flow of no service, or that quotes too little to tell.
    IcmpErrorOther = "icmp_error_other", Pass;
    /// Ends within the Ethernet header or a VLAN tag.
    TruncatedL2 = "truncated_l2", Pass;
    /// Ends within the IP header, its options or extension headers, or before the length that it names.
    TruncatedL3 = "truncated_l3", Pass;
    /// For a service's address, and ends within the TCP, UDP or ICMP header.
    TruncatedL4 = "truncated_l4", Drop;
    /// IP version, header length or total length that cannot be, or an IPv6 jumbogram.
    BadIp = "bad_ip", Pass;
    /// For a service's address, with more IPv6 extension headers than are followed.
    TooManyHeaders = "too_many_headers", Drop;
    /// For a service's address, with a TCP data offset below five words or beyond the packet.
    BadTcp = "bad_tcp", Drop;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_rows_are_dense() {
        for (i, v) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*v as usize, i);
            assert_eq!(Verdict::ALL.iter().filter(|o| o.name() == v.name()).count(), 1);
        }
    }
}
