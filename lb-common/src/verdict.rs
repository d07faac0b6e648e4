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
    /// Out again, by the same interface (`XDP_TX`) or another (`XDP_REDIRECT`).
    Send,
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
    /// For a service's address, with a UDP length below eight bytes or beyond the packet.
    BadUdp = "bad_udp", Drop;
    /// For a service's address, with an IPv4 header whose checksum is wrong.
    BadIpChecksum = "bad_ip_checksum", Drop;
    /// For a service, with TCP flags that no TCP sends together (none, SYN with FIN or RST, FIN without ACK, RST with FIN).
    BadTcpFlags = "bad_tcp_flags", Drop;
    /// For a service's address, and from that same address.
    Land = "land", Drop;
    /// For a service's address, from one that sends nothing: broadcast, multicast, loopback, unspecified.
    BadSource = "bad_source", Drop;
    /// The source is on a deny list.
    Denied = "denied", Drop;
    /// More packets of one source than the service takes.
    RateSourcePackets = "rate_source_packets", Drop;
    /// More new connections of one source than the service takes.
    RateSourceConnections = "rate_source_connections", Drop;
    /// More packets than the service takes.
    RateServicePackets = "rate_service_packets", Drop;
    /// More new connections than the service takes.
    RateServiceConnections = "rate_service_connections", Drop;
    /// A SYN, answered with a cookie.
    SynCookie = "syn_cookie", Send;
    /// Forwarded with the backend as its destination.
    ForwardNat = "forward_nat", Send;
    /// Forwarded in an outer IP header.
    ForwardIpip = "forward_ipip", Send;
    /// Forwarded with the backend's MAC address.
    ForwardL2 = "forward_l2", Send;
    /// A fragment, forwarded: its service takes every port and hashes addresses only.
    ForwardFragment = "forward_fragment", Send;
    /// A backend's reply, sent on with the service as its source.
    ReplyNat = "reply_nat", Send;
    /// An ICMP error about a flow of a forwarded service, sent to the flow's backend.
    IcmpErrorForward = "icmp_error_forward", Send;
    /// An ICMP error about a client's packet, sent on to the client as if it were about the service.
    IcmpErrorReply = "icmp_error_reply", Send;
    /// A forwarded service without a backend that may be chosen.
    NoBackend = "no_backend", Drop;
    /// No route leads to the backend, or to the client of its reply.
    NoRoute = "no_route", Drop;
    /// The next hop's MAC address is not known yet; it is being asked for.
    NoNeighbour = "no_neighbour", Drop;
    /// The route leads out of an interface that the edge is not attached to.
    NoDevice = "no_device", Drop;
    /// Larger than the way to the backend or client takes; the sender was told the MTU.
    TooBig = "too_big", Send;
    /// The same, and the sender was not told: too many were told before, or it cannot be.
    TooBigSilent = "too_big_silent", Drop;
    /// To be forwarded, with no hop left; the sender was told.
    TtlExpired = "ttl_expired", Send;
    /// The same, and the sender was not told: too many were told before, or it cannot be.
    TtlExpiredSilent = "ttl_expired_silent", Drop;
    /// A fragment for a forwarded service that looks at ports, which fragments do not have.
    FragmentForward = "fragment_forward", Drop;
    /// For a forwarded service, behind a VLAN tag that the interface left on.
    TaggedForward = "tagged_forward", Drop;
    /// To be forwarded, but the driver leaves no room to rewrite it.
    NoRoom = "no_room", Drop;
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
