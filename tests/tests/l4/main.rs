//! Forwarded services, against a real edge: every mode carries real traffic of both families, and a change breaks no
//! flow but those of what is gone.

mod changes;
mod icmp;
mod nat;
mod shield;
mod site;
mod trouble;
mod tunnel;
mod udp;

use std::process::ExitCode;

use lb_tests::harness::{lab, mostly_waiting as run};

fn main() -> ExitCode {
    run(vec![
        lab("nat_carries_full_size_transfers_and_the_backend_sees_the_client", nat::transfers),
        lab("nat_leaves_the_port_of_an_all_ports_service_as_it_is", nat::all_ports),
        lab("nat_carries_iperf3_both_ways", nat::iperf3),
        lab("ipip_carries_full_size_transfers_v4_in_v4", tunnel::v4_in_v4),
        lab("ipip_carries_full_size_transfers_v6_in_v6", tunnel::v6_in_v6),
        lab("ipip_carries_full_size_transfers_v4_in_v6", tunnel::v4_in_v6),
        lab("l2_carries_full_size_transfers", tunnel::l2),
        lab("ping_of_a_forwarded_address_is_answered", icmp::ping),
        lab("traceroute_sees_the_edge_and_then_the_service", icmp::traceroute),
        lab("a_backends_port_unreachable_reaches_the_client_as_the_services", icmp::unreachable),
        lab("frag_needed_from_the_network_reaches_the_backend_that_owns_the_flow", icmp::frag_needed),
        lab("datagrams_are_carried_both_ways", udp::echo),
        lab("a_dns_server_is_asked_over_udp_and_tcp", udp::dns),
        lab("backends_come_and_go_under_200_connections_nat", changes::nat),
        lab("backends_come_and_go_under_200_connections_l2", changes::l2),
        lab("a_backend_without_a_route_is_told_and_the_others_go_on", trouble::no_route),
        lab("deny_shuts_a_client_out_and_watch_tells_and_remove_lets_it_in", shield::deny),
        lab("new_connections_of_a_source_are_limited_and_counted", shield::rate),
    ])
}
