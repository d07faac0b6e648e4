//! Real connections: each is accepted by the worker that XDP chose, on that worker's CPU.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};

use lb_tests::privilege;
use lb_user::datapath::{Datapath as _, KernelDatapath, Protocol, Steering};
use libtest_mimic::{Failed, Trial};

use crate::edge::*;
use crate::lab::*;

const CONNECTIONS: u16 = 40;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("hash, native: worker, CPU and listener agree", || hash(true)),
        Trial::test("hash, generic: worker, CPU and listener agree", || hash(false)),
        Trial::test("rss: the worker of the CPU that took the SYN in", rss),
        Trial::test("what is no service's is left alone", others),
    ]
}

/// Both families; an exact port, one that nobody bound on an address of every port, and one that goes before it.
fn destinations() -> [(SocketAddr, u32); 6] {
    [
        (at(VIP4, 443), 1),
        (at(VIP6, 443), 1),
        (at(ALL4, 31337), 2),
        (at(ALL6, 1), 2),
        (at(ALL4, 8443), 3),
        (at(ALL6, 8443), 3),
    ]
}

fn hash(native: bool) -> Result<(), Failed> {
    let lab = Lab::new()?;
    lab.in_edge(|| block_on(hash_in(&lab, native)))
}

async fn hash_in(lab: &Lab, native: bool) -> Result<(), Failed> {
    let name = if native { "hash" } else { "hash-generic" };
    let mut datapath =
        KernelDatapath::open(lb_user::datapath::KernelOptions { native, ..options(name, Steering::Hash) }, None)
            .await?;
    let listeners = datapath.apply(&desired()).await?;
    let description = datapath.describe();
    assert_eq!(description.steering.as_deref(), Some("hash"));
    assert_eq!(description.datapath, if native { "native" } else { "generic" });
    assert_eq!(listeners.len(), workers().len());

    let mut by_worker = BTreeMap::new();
    for turn in 0..CONNECTIONS {
        for (destination, service) in destinations() {
            // The client sends from either CPU; the worker must not depend on it.
            let cpus = privilege::cpus();
            let client = lab.connect(destination, cpus[usize::from(turn) % cpus.len()])?;
            let arrival = accept(&listeners)?;
            let flow = datapath.flow(Protocol::Tcp, client.local_addr()?, destination).ok_or("no answer")?;
            assert_eq!((arrival.client, arrival.destination), (client.local_addr()?, destination));
            assert_eq!(flow.service, Some(service));
            assert_eq!(flow.worker, Some(arrival.worker), "{arrival:?}");
            assert_eq!(flow.cpu, Some(arrival.cpu), "{arrival:?}");
            *by_worker.entry(arrival.worker).or_insert(0u64) += 1;
        }
    }
    let counters = datapath.counters()?;
    let counted: BTreeMap<u32, u64> = counters.worker_flows.into_iter().filter(|(_, flows)| *flows != 0).collect();
    assert_eq!(counted, by_worker);
    let steered = packets(&datapath)?;
    for service in 1..=3 {
        let local = steered.get(&(service, "steer_local")).copied().unwrap_or_default();
        let redirected = steered.get(&(service, "steer_redirect")).copied().unwrap_or_default();
        // SYN and ACK at the least.
        assert!(local + redirected >= 2 * 2 * u64::from(CONNECTIONS), "{steered:?}");
        assert!(workers().len() == 1 || (local > 0 && redirected > 0), "{steered:?}");
    }
    Ok(datapath.close().await?)
}

fn rss() -> Result<(), Failed> {
    let lab = Lab::new()?;
    lab.in_edge(|| block_on(rss_in(&lab)))
}

async fn rss_in(lab: &Lab) -> Result<(), Failed> {
    let mut datapath = KernelDatapath::open(options("rss", Steering::Rss), None).await?;
    let listeners = datapath.apply(&desired()).await?;
    assert_eq!(datapath.describe().steering.as_deref(), Some("rss"));
    let mut seen = BTreeMap::new();
    for turn in 0..CONNECTIONS {
        for (destination, _) in destinations() {
            let cpus = privilege::cpus();
            let _client = lab.connect(destination, cpus[usize::from(turn) % cpus.len()])?;
            let arrival = accept(&listeners)?;
            let worker = workers().into_iter().find(|worker| worker.index == arrival.worker);
            assert_eq!(worker.map(|worker| worker.cpu), Some(arrival.cpu), "{arrival:?}");
            assert_eq!(arrival.destination, destination);
            *seen.entry(arrival.worker).or_insert(0u64) += 1;
        }
    }
    assert_eq!(seen.len(), workers().len(), "connections by worker: {seen:?}");
    let steered = packets(&datapath)?;
    assert!(steered.keys().all(|(service, verdict)| *service == 0 || *verdict == "steer_rss"), "{steered:?}");
    Ok(datapath.close().await?)
}

fn others() -> Result<(), Failed> {
    let lab = Lab::new()?;
    lab.in_edge(|| block_on(others_in(&lab)))
}

/// A plain server on the edge's own address, and a port of a VIP that is no service.
async fn others_in(lab: &Lab) -> Result<(), Failed> {
    let mut datapath = KernelDatapath::open(options("others", Steering::Hash), None).await?;
    datapath.apply(&desired()).await?;
    let server = TcpListener::bind(at(EDGE4, 8080))?;
    let mut client = lab.connect(at(EDGE4, 8080), privilege::cpus()[0])?;
    let (mut peer, _) = server.accept()?;
    client.write_all(b"ping")?;
    let mut received = [0; 4];
    peer.read_exact(&mut received)?;
    assert_eq!(&received, b"ping");
    let refused = lab.connect(at(VIP4, 444), privilege::cpus()[0]).expect_err("nobody listens there");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    let counted = packets(&datapath)?;
    assert!(counted.keys().all(|(service, _)| *service == 0), "{counted:?}");
    assert!(counted[&(0, "not_vip")] >= 3, "{counted:?}");
    assert_eq!(counted[&(0, "no_service")], 1, "{counted:?}");
    assert!(datapath.counters()?.worker_flows.iter().all(|(_, flows)| *flows == 0));
    Ok(datapath.close().await?)
}
