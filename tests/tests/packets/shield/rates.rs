//! Rates of sources and services: bursts, masks, and that what is refused is not counted.

use std::time::Instant;

use lb_common::Verdict::{self, *};
use lb_user::datapath::probe::XdpAction;
use libtest_mimic::Failed;

use super::*;
use crate::setup::*;

/// `good` packets that pass, then one that does not.
fn fills(name: &'static str, frames: &[Vec<u8>], good: usize, port: u16, verdict: Verdict) -> Case {
    let steps = (0..=good).map(|index| {
        let ends = if index < good { SteerLocal } else { verdict };
        (frames[index % frames.len()].clone(), id(port), ends)
    });
    Case { name, steps: steps.collect() }
}

pub(super) fn rates() -> Vec<Case> {
    let ack4 = |source, port| from4(source).tcp(40000, port, &[]).flags(ACK).build();
    let ack6 = |source: &str, port| from6(source).tcp(40000, port, &[]).flags(ACK).build();
    let ok = |frame: Vec<u8>, port| (frame, id(port), SteerLocal);
    let no = |frame: Vec<u8>, port, verdict| (frame, id(port), verdict);
    let v4 = |last| [11, 0, last, 1];
    let in_24 = [syn4([11, 1, 0, 0], SOURCE_PACKETS), syn4([11, 1, 0, 255], SOURCE_PACKETS)];
    let in_48 = [syn6("2001:db8:100::", SOURCE_PACKETS), syn6("2001:db8:100:ffff:ffff:ffff:ffff:ffff", SOURCE_PACKETS)];
    let port = SOURCE_PACKETS;
    vec![
        fills("packets of a source up to the burst, IPv4", &[ack4(v4(1), port)], 3, port, RateSourcePackets),
        fills(
            "packets of a source up to the burst, IPv6",
            &[ack6("2001:db8:101::1", port)],
            3,
            port,
            RateSourcePackets,
        ),
        fills("SYNs are packets, too", &[syn4(v4(2), port)], 3, port, RateSourcePackets),
        fills("one source is a /24", &in_24, 3, port, RateSourcePackets),
        fills("one source is a /48", &in_48, 3, port, RateSourcePackets),
        Case {
            name: "beside a /24 and a /48 there is another source",
            steps: vec![
                ok(ack4([11, 2, 0, 255], port), port),
                ok(ack4([11, 2, 0, 1], port), port),
                ok(ack4([11, 2, 0, 2], port), port),
                no(ack4([11, 2, 0, 3], port), port, RateSourcePackets),
                ok(ack4([11, 2, 1, 0], port), port),
                ok(ack4([11, 1, 255, 255], port), port),
                ok(ack6("2001:db8:102::1", port), port),
                ok(ack6("2001:db8:102::2", port), port),
                ok(ack6("2001:db8:102:1::", port), port),
                no(ack6("2001:db8:102:2::", port), port, RateSourcePackets),
                ok(ack6("2001:db8:103::", port), port),
            ],
        },
        Case {
            name: "masks of 31 and 127 bits",
            steps: vec![
                ok(ack4([11, 3, 0, 2], WIDE), WIDE),
                no(ack4([11, 3, 0, 3], WIDE), WIDE, RateSourcePackets),
                ok(ack4([11, 3, 0, 4], WIDE), WIDE),
                ok(ack6("2001:db8:104::2", WIDE), WIDE),
                no(ack6("2001:db8:104::3", WIDE), WIDE, RateSourcePackets),
                ok(ack6("2001:db8:104::4", WIDE), WIDE),
            ],
        },
        fills(
            "connections of a source up to the burst, IPv4",
            &[syn4(v4(3), SOURCE_CONNECTIONS)],
            2,
            SOURCE_CONNECTIONS,
            RateSourceConnections,
        ),
        fills(
            "connections of a source up to the burst, IPv6",
            &[syn6("2001:db8:105::1", SOURCE_CONNECTIONS)],
            2,
            SOURCE_CONNECTIONS,
            RateSourceConnections,
        ),
        Case {
            name: "what is no SYN is no new connection",
            steps: vec![
                ok(syn4(v4(4), SOURCE_CONNECTIONS), SOURCE_CONNECTIONS),
                ok(ack4(v4(4), SOURCE_CONNECTIONS), SOURCE_CONNECTIONS),
                ok(syn4(v4(4), SOURCE_CONNECTIONS), SOURCE_CONNECTIONS),
                no(syn4(v4(4), SOURCE_CONNECTIONS), SOURCE_CONNECTIONS, RateSourceConnections),
                ok(ack4(v4(4), SOURCE_CONNECTIONS), SOURCE_CONNECTIONS),
                ok(syn4(v4(5), SOURCE_CONNECTIONS), SOURCE_CONNECTIONS),
            ],
        },
        fills(
            "packets of a service, of any source and family",
            &[syn4(v4(6), PACKETS_A), ack4(v4(7), PACKETS_A), ack6("2001:db8:106::1", PACKETS_A)],
            4,
            PACKETS_A,
            RateServicePackets,
        ),
        fills("packets of a service, IPv6", &[ack6("2001:db8:107::1", PACKETS_B)], 4, PACKETS_B, RateServicePackets),
        fills(
            "connections of a service, of any source",
            &[syn4(v4(8), CONNECTIONS_A), syn6("2001:db8:108::1", CONNECTIONS_A)],
            2,
            CONNECTIONS_A,
            RateServiceConnections,
        ),
        Case {
            name: "packets go on when connections do not",
            steps: vec![
                ok(syn4(v4(9), CONNECTIONS_B), CONNECTIONS_B),
                ok(syn4(v4(10), CONNECTIONS_B), CONNECTIONS_B),
                no(syn4(v4(11), CONNECTIONS_B), CONNECTIONS_B, RateServiceConnections),
                ok(ack4(v4(11), CONNECTIONS_B), CONNECTIONS_B),
            ],
        },
        Case {
            name: "what a source is refused, its service is not charged with",
            steps: vec![
                ok(ack4(v4(12), BOTH), BOTH),
                ok(ack4(v4(12), BOTH), BOTH),
                no(ack4(v4(12), BOTH), BOTH, RateSourcePackets),
                no(ack4(v4(12), BOTH), BOTH, RateSourcePackets),
                ok(ack4(v4(13), BOTH), BOTH),
                ok(ack4(v4(13), BOTH), BOTH),
                ok(ack4(v4(14), BOTH), BOTH),
                no(ack4(v4(14), BOTH), BOTH, RateServicePackets),
            ],
        },
        Case {
            name: "what a service refuses, its source is not charged with",
            steps: vec![
                ok(syn4(v4(15), BOTH_CONNECTIONS), BOTH_CONNECTIONS),
                no(syn4(v4(16), BOTH_CONNECTIONS), BOTH_CONNECTIONS, RateServiceConnections),
                no(syn4(v4(16), BOTH_CONNECTIONS), BOTH_CONNECTIONS, RateServiceConnections),
                ok(ack4(v4(16), BOTH_CONNECTIONS), BOTH_CONNECTIONS),
                ok(ack4(v4(16), BOTH_CONNECTIONS), BOTH_CONNECTIONS),
                ok(ack4(v4(16), BOTH_CONNECTIONS), BOTH_CONNECTIONS),
                ok(ack4(v4(16), BOTH_CONNECTIONS), BOTH_CONNECTIONS),
                no(ack4(v4(16), BOTH_CONNECTIONS), BOTH_CONNECTIONS, RateSourcePackets),
            ],
        },
        Case {
            name: "a service without limits has none",
            steps: (0..100).map(|_| (syn4(v4(17), HTTPS), 1, SteerLocal)).collect(),
        },
    ]
}

pub(super) fn unlimited() -> Result<(), Failed> {
    let v4 = (0..50).map(|_| (syn4([100, 64, 0, 1], SOURCE_CONNECTIONS), id(SOURCE_CONNECTIONS), SteerLocal));
    let v6 = (0..50).map(|_| (syn6("2001:db8:aa::1", SOURCE_PACKETS), id(SOURCE_PACKETS), SteerLocal));
    run(&v4.chain(v6).collect::<Vec<_>>())
}

pub(super) fn refill() -> Result<(), Failed> {
    let frame = syn4([11, 9, 0, 1], QUICK);
    let bench = bench()?;
    run(&[(frame.clone(), id(QUICK), SteerLocal)])?;
    let (begin, mut refused) = (Instant::now(), 0);
    while bench.run(&frame)?.action == XdpAction::Drop {
        refused += 1;
        if begin.elapsed() > PATIENCE {
            return Err(format!("refused {refused} times, and still").into());
        }
    }
    Ok(())
}
