//! The datapath without BPF and without privilege: a listener for each worker on each address (SO_REUSEPORT), among
//! which the kernel spreads connections by its own hash.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::SocketAddr;

use super::{
    Counters, Datapath, DatapathError, Description, Desired, DesiredService, FlowAnswer, Inherited, Listener,
    PacketEvent, Protocol, Worker, listen,
};
use tokio::sync::broadcast;

/// Ordinary listeners, one a worker and address.
#[derive(Debug)]
pub struct SocketsDatapath {
    workers: Vec<Worker>,
    standing: BTreeMap<SocketAddr, Standing>,
    /// Addresses that were listened on at some time. Workers may hold such a socket for a while after it was given
    /// up here, so that for these alone a busy address proves nothing.
    known: HashSet<SocketAddr>,
    /// Listeners of the control plane before this one, until the first change says which of them are wanted.
    inherited: Vec<Listener>,
}

#[derive(Debug)]
struct Standing {
    service: u32,
    listeners: Vec<Listener>,
}

impl SocketsDatapath {
    /// Listens on nothing new yet; what is inherited stands, and is given up with the first change that does not want
    /// it.
    pub fn open(workers: Vec<Worker>, inherited: Option<Inherited>) -> Self {
        let inherited = inherited.map(|inherited| inherited.listeners).unwrap_or_default();
        listen::inherit(&inherited);
        let known = inherited.iter().filter_map(|listener| listener.address).collect();
        Self { workers, standing: BTreeMap::new(), known, inherited }
    }

    fn listen(&self, address: SocketAddr) -> io::Result<Vec<Listener>> {
        if !self.known.contains(&address) {
            listen::check_free(address)?;
        }
        let of = |worker: &Worker| {
            let inherited = |l: &&Listener| l.address == Some(address) && l.worker == worker.index;
            match self.inherited.iter().find(inherited) {
                Some(listener) => Ok(listener.clone()),
                None => Ok(listen::listener(worker.index, Some(address), listen::shared(address)?)),
            }
        };
        self.workers.iter().map(of).collect()
    }
}

impl Datapath for SocketsDatapath {
    async fn apply(&mut self, desired: &Desired) -> Result<Vec<Listener>, DatapathError> {
        if let Some(forward) = desired.forwards.first() {
            return Err(DatapathError::Unforwarded { service: forward.name.clone() });
        }
        let wanted = addresses(desired)?;
        // What is new is made aside; an error drops it, and what stands was not touched.
        let mut made = Vec::new();
        for (address, service) in &wanted {
            if !self.standing.contains_key(address) {
                let listeners = self.listen(*address).map_err(|e| refused(*address, service, e))?;
                made.push((*address, Standing { service: service.id, listeners }));
            }
        }
        self.standing.retain(|address, _| wanted.contains_key(address));
        self.standing.extend(made);
        for (address, service) in &wanted {
            if let Some(standing) = self.standing.get_mut(address) {
                standing.service = service.id;
            }
        }
        self.known.extend(wanted.keys());
        self.inherited.clear();
        Ok(self.standing.values().flat_map(|standing| standing.listeners.iter().cloned()).collect())
    }

    fn counters(&self) -> Result<Counters, DatapathError> {
        Ok(Counters::default())
    }

    fn flow(&self, protocol: Protocol, _source: SocketAddr, destination: SocketAddr) -> Option<FlowAnswer> {
        let unspecified = match destination {
            SocketAddr::V4(_) => SocketAddr::from(([0; 4], destination.port())),
            SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], destination.port())),
        };
        let standing = self.standing.get(&destination).or_else(|| self.standing.get(&unspecified));
        let standing = standing.filter(|_| protocol == Protocol::Tcp);
        // Which of the listeners the kernel takes is its own secret.
        Some(FlowAnswer { service: standing.map(|s| s.service), ..FlowAnswer::default() })
    }

    async fn tick(&mut self) {}

    fn events(&self) -> Option<broadcast::Receiver<PacketEvent>> {
        None
    }

    fn describe(&self) -> Description {
        Description { datapath: "sockets".to_owned(), ..Description::default() }
    }

    fn note(&self) -> serde_json::Value {
        // The listeners say everything.
        serde_json::Value::Null
    }

    fn leave(self) {}

    async fn close(self) -> Result<(), DatapathError> {
        Ok(())
    }
}

fn addresses(desired: &Desired) -> Result<BTreeMap<SocketAddr, &DesiredService>, DatapathError> {
    let mut wanted: BTreeMap<SocketAddr, &DesiredService> = BTreeMap::new();
    for service in &desired.services {
        for listen in &service.addresses {
            let Some(port) = listen.port.filter(|port| *port != 0) else {
                let why = "every port of an address can only be served with datapath = \"native\" or \"generic\"";
                return Err(DatapathError::Listen {
                    address: format!("{}:*", listen.address),
                    service: service.name.clone(),
                    source: io::Error::new(io::ErrorKind::Unsupported, why),
                });
            };
            let address = SocketAddr::new(listen.address, port);
            if let Some(other) = wanted.insert(address, service) {
                let why = io::Error::new(io::ErrorKind::AddrInUse, format!("service {:?} has it", other.name));
                return Err(refused(address, service, why));
            }
        }
    }
    Ok(wanted)
}

fn refused(address: SocketAddr, service: &DesiredService, source: io::Error) -> DatapathError {
    DatapathError::Listen { address: address.to_string(), service: service.name.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use tls_worker::api::ListenAddress;

    fn service(id: u32, addresses: &[SocketAddr]) -> DesiredService {
        let addresses = addresses.iter().map(|a| ListenAddress { address: a.ip(), port: Some(a.port()) }).collect();
        DesiredService { id, name: format!("service-{id}"), addresses }
    }

    fn desired(services: Vec<DesiredService>) -> Desired {
        Desired { services, ..Desired::default() }
    }

    fn two_workers() -> SocketsDatapath {
        heir(Vec::new())
    }

    fn heir(listeners: Vec<Listener>) -> SocketsDatapath {
        let inherited = Inherited { listeners, note: serde_json::Value::Null, alive: false };
        SocketsDatapath::open(vec![Worker { index: 0, cpu: 0 }, Worker { index: 1, cpu: 1 }], Some(inherited))
    }

    /// An address that was free a moment ago.
    fn free() -> SocketAddr {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
    }

    fn apply(datapath: &mut SocketsDatapath, desired: &Desired) -> Result<Vec<Listener>, DatapathError> {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(datapath.apply(desired))
    }

    #[test]
    fn every_worker_listens_on_every_address() {
        let (a, b) = (free(), free());
        let mut datapath = two_workers();
        let listeners = apply(&mut datapath, &desired(vec![service(1, &[a, b])])).unwrap();
        let mut got: Vec<_> = listeners.iter().map(|l| (l.address.unwrap(), l.worker)).collect();
        got.sort();
        let mut want = vec![(a, 0), (a, 1), (b, 0), (b, 1)];
        want.sort();
        assert_eq!(got, want);
        TcpStream::connect(a).unwrap();
        TcpStream::connect(b).unwrap();
        assert_eq!(datapath.flow(Protocol::Tcp, free(), b).unwrap().service, Some(1));
    }

    #[test]
    fn what_stays_keeps_its_sockets_and_what_goes_is_closed() {
        let (a, b, c) = (free(), free(), free());
        let mut datapath = two_workers();
        let first = apply(&mut datapath, &desired(vec![service(1, &[a, b])])).unwrap();
        let kept: HashSet<u64> = first.iter().filter(|l| l.address == Some(a)).map(|l| l.id).collect();
        drop(first);
        let second = apply(&mut datapath, &desired(vec![service(2, &[a, c])])).unwrap();
        let now: HashSet<u64> = second.iter().filter(|l| l.address == Some(a)).map(|l| l.id).collect();
        assert_eq!(kept, now);
        assert_eq!(datapath.flow(Protocol::Tcp, free(), a).unwrap().service, Some(2));
        assert!(TcpStream::connect(b).is_err());
        TcpStream::connect(c).unwrap();
    }

    #[test]
    fn a_busy_address_is_refused_and_changes_nothing() {
        let a = free();
        let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut datapath = two_workers();
        apply(&mut datapath, &desired(vec![service(1, &[a])])).unwrap();
        let b = free();
        let error = apply(&mut datapath, &desired(vec![service(1, &[b, busy.local_addr().unwrap()])])).unwrap_err();
        assert!(matches!(error, DatapathError::Listen { ref source, .. } if source.kind() == io::ErrorKind::AddrInUse));
        TcpStream::connect(a).unwrap();
        assert!(TcpStream::connect(b).is_err());
    }

    #[test]
    fn an_address_shared_by_another_edge_is_busy_too() {
        let a = free();
        let mut one = two_workers();
        apply(&mut one, &desired(vec![service(1, &[a])])).unwrap();
        let error = apply(&mut two_workers(), &desired(vec![service(1, &[a])])).unwrap_err();
        assert!(matches!(error, DatapathError::Listen { ref source, .. } if source.kind() == io::ErrorKind::AddrInUse));
    }

    #[test]
    fn an_address_comes_back_while_a_worker_still_holds_the_old_socket() {
        let a = free();
        let mut datapath = two_workers();
        let held = apply(&mut datapath, &desired(vec![service(1, &[a])])).unwrap();
        apply(&mut datapath, &desired(vec![])).unwrap();
        let again = apply(&mut datapath, &desired(vec![service(1, &[a])])).unwrap();
        assert!(again.iter().all(|l| held.iter().all(|h| h.id != l.id)));
    }

    #[test]
    fn an_heir_goes_on_with_what_is_wanted_and_gives_up_the_rest() {
        let (a, b, c) = (free(), free(), free());
        let mut before = two_workers();
        let left = apply(&mut before, &desired(vec![service(1, &[a, b])])).unwrap();
        before.leave();
        let ids = |listeners: &[Listener], at| -> HashSet<u64> {
            listeners.iter().filter(|l| l.address == Some(at)).map(|l| l.id).collect()
        };
        let (kept, last) = (ids(&left, a), left.iter().map(|l| l.id).max().unwrap());
        let mut heir = heir(left);
        // A change that is refused gives nothing up.
        let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        apply(&mut heir, &desired(vec![service(1, &[busy.local_addr().unwrap()])])).unwrap_err();
        TcpStream::connect(b).unwrap();
        let now = apply(&mut heir, &desired(vec![service(1, &[a, c])])).unwrap();
        assert_eq!(ids(&now, a), kept);
        assert!(ids(&now, c).iter().all(|id| *id > last));
        assert!(TcpStream::connect(b).is_err());
        TcpStream::connect(a).unwrap();
    }

    #[test]
    fn an_heir_with_more_workers_makes_what_is_missing() {
        let a = free();
        let mut before = SocketsDatapath::open(vec![Worker { index: 0, cpu: 0 }], None);
        let left = apply(&mut before, &desired(vec![service(1, &[a])])).unwrap();
        let kept = left[0].id;
        let now = apply(&mut heir(left), &desired(vec![service(1, &[a])])).unwrap();
        assert_eq!(now.iter().map(|l| l.worker).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(now[0].id, kept);
    }

    #[test]
    fn every_port_is_refused() {
        let all = ListenAddress { address: Ipv4Addr::LOCALHOST.into(), port: None };
        let services = vec![DesiredService { id: 1, name: "web".to_owned(), addresses: vec![all] }];
        let error = apply(&mut two_workers(), &desired(services)).unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:*") && error.contains("\"web\"") && error.contains("native"), "{error}");
    }
}
