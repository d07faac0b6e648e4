//! An echo of ICMP. One socket for each family and source carries those of all backends.

use super::connect::blame;
use super::{Answer, Fault, Question};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use surge_ping::{Client, Config, ICMP, PingIdentifier, PingSequence, SurgeError};

/// Bytes of an echo: as many as ping(8) sends.
const PAYLOAD: [u8; 56] = [0; 56];

/// Family (true: IPv4) and source.
type Way = (bool, Option<IpAddr>);

/// The sockets of echoes.
#[derive(Default)]
pub(super) struct Pings {
    clients: Mutex<HashMap<Way, Client>>,
    sequence: AtomicU16,
}

impl Pings {
    /// Let go of all sockets: they are made again when they are needed.
    pub(super) fn forget(&self) {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn client(&self, way: Way) -> std::io::Result<Client> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&way) {
            return Ok(client.clone());
        }
        let mut config = Config::builder().kind(if way.0 { ICMP::V4 } else { ICMP::V6 });
        if let Some(source) = way.1 {
            config = config.bind(SocketAddr::new(source, 0));
        }
        let client = Client::new(&config.build())?;
        clients.insert(way, client.clone());
        Ok(client)
    }
}

impl std::fmt::Debug for Pings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pings")
    }
}

pub(super) async fn ask(question: Question<'_>, pings: &Pings) -> Answer {
    let (to, check) = (question.to.ip(), &question.prepared.check);
    if let Some(source) = check.source.filter(|source| source.is_ipv4() != to.is_ipv4()) {
        return Err(Fault::Edge(format!("from {source} there is no way to {to}: they are of two families")));
    }
    let client = pings.client((to.is_ipv4(), check.source)).map_err(|error| {
        let help = "let it have CAP_NET_RAW, or its group be in net.ipv4.ping_group_range";
        Fault::Edge(format!("no socket for ICMP: {error}; {help}"))
    })?;
    // The identifier tells the edge's echoes from those of other programs, the sequence each from the next.
    let sequence = PingSequence(pings.sequence.fetch_add(1, Ordering::Relaxed));
    let mut pinger = client.pinger(to, PingIdentifier(std::process::id() as u16)).await;
    pinger.timeout(check.timeout);
    match pinger.ping(sequence, &PAYLOAD).await {
        Ok(_) => Ok((true, "echo".into())),
        Err(SurgeError::Timeout { .. }) => Err(Fault::Backend("no answer".into())),
        Err(SurgeError::IOError(error)) => Err(blame("ICMP", &error)),
        Err(error) => Err(Fault::Edge(format!("ICMP: {error}"))),
    }
}
