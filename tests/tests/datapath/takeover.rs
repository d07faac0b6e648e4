//! An edge goes on with what another of its name left or hands over: packets flow meanwhile, and where it fails they flow
//! as before. Packets that are denied are the proof that XDP was never off: none may reach the stack.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::lab::{Lab, VIP4};
use lb_tests::lines::{Connections, Lines};
use lb_tests::wait::{PATIENCE, wait_ok};
use lb_user::datapath::{
    Datapath as _, DatapathError, Desired, DesiredForward, ForwardBackend, ForwardHash, ForwardMode, Inherited,
    KernelDatapath, KernelOptions, Ports, PrefixRule, Protocol, ServiceAddress, Steering,
};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use tls_worker::api::BackendState;

use crate::edge::{block_on, options};

const LINES: u16 = 7000;
const STREAM: u16 = 7001;
const CONNECTIONS: usize = 60;
const SOON: Duration = Duration::from_secs(3);
/// A second address of the client, which is denied.
const DENIED: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("five takeovers lose no packet, let none pass that is denied, and break no flow", || run(five)),
        Trial::test("an heir that fails leaves everything as it was", || run(fails)),
        Trial::test("what an heir changed is taken back", || run(retaken)),
        Trial::test("another version and other sizes are refused to heirs, and replaced after a death", || run(unfit)),
    ]
}

fn run(test: impl AsyncFnOnce(&Site) -> Result<()> + Send) -> Result<(), Failed> {
    let site = Site::new()?;
    site.lab.edge.run(|| block_on(test(&site)))?;
    Ok(())
}

/// Three backends; the packets of a stream arrive at the first.
struct Site {
    lab: Lab,
    _servers: Vec<Lines>,
    stream: Stream,
}

impl Site {
    fn new() -> Result<Self> {
        let lab = Lab::forwarding(3)?;
        lab.client.ip(&format!("address add {DENIED}/24 dev eth0"))?;
        let one = |i: u8| Lines::start(&lab.backends[usize::from(i)], &i.to_string(), &[lab.backend(i, LINES)]);
        let servers = (0..3).map(one).collect::<Result<_>>()?;
        let stream = Stream::start(&lab)?;
        Ok(Self { lab, _servers: servers, stream })
    }

    fn options(&self, name: &str) -> KernelOptions {
        let interfaces = ["wan", "dmz1", "dmz2", "dmz3"].map(str::to_owned).to_vec();
        KernelOptions { interfaces, native: false, ..options(name, Steering::Hash) }
    }

    /// The middle backend takes new flows or drains.
    fn desired(&self, middle: BackendState) -> Desired {
        let states = [BackendState::Up, middle, BackendState::Up];
        let lines = (0..).zip(states).map(|(i, state)| (self.lab.backend(i, LINES), state)).collect::<Vec<_>>();
        let denied = ipnet::IpNet::from(std::net::IpAddr::from(DENIED));
        Desired {
            forwards: vec![
                forward(1, LINES, &lines),
                forward(2, STREAM, &[(self.lab.backend(0, STREAM), BackendState::Up)]),
            ],
            prefixes: Arc::new(vec![PrefixRule { service: 0, network: denied, allow: false, until: None }]),
            ..Desired::default()
        }
    }

    /// An edge that serves, and whose stream flows.
    async fn serving(&self, name: &str) -> Result<KernelDatapath> {
        let mut datapath = KernelDatapath::open(self.options(name), None).await?;
        datapath.apply(&self.desired(BackendState::Up)).await?;
        datapath.tick().await;
        wait_ok("the first packet of the stream", PATIENCE, || {
            ensure!(self.stream.arrived() > 0);
            Ok(())
        })?;
        Ok(datapath)
    }

    /// Connections, and who answers on each.
    fn connections(&self) -> Result<(Open, Vec<String>)> {
        let open = || Connections::open(&self.lab.client, (VIP4, LINES).into(), CONNECTIONS);
        let mut connections = Open(Some(aside(open)?));
        let owners = owners(&mut connections)?;
        Ok((connections, owners))
    }

    /// Program on the client's side.
    fn program(&self) -> Result<u64> {
        let shown = self.lab.edge.output("ip", &["-d", "-j", "link", "show", "dev", "wan"])?;
        let shown: Value = serde_json::from_str(&shown)?;
        shown[0]["xdp"]["prog"]["id"].as_u64().with_context(|| format!("no program: {shown}"))
    }
}

fn forward(id: u32, port: u16, backends: &[(SocketAddr, BackendState)]) -> DesiredForward {
    let one =
        |(address, state): &(SocketAddr, BackendState)| ForwardBackend { address: *address, weight: 1, state: *state };
    DesiredForward {
        id,
        name: format!("service-{id}"),
        addresses: vec![ServiceAddress { address: VIP4.into(), ports: Ports::Range(port, port) }],
        protocols: vec![Protocol::Tcp, Protocol::Udp],
        mode: ForwardMode::Nat,
        hash: ForwardHash::Flow,
        slots: 1021,
        drain: Duration::from_secs(60),
        udp_idle: Duration::from_secs(60),
        outer_mtu: None,
        backends: backends.iter().map(one).collect(),
    }
}

/// On a thread without a runtime, as connections have their own.
fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// Connections, asked and closed aside.
struct Open(Option<Connections>);

impl Drop for Open {
    fn drop(&mut self) {
        aside(|| drop(self.0.take()));
    }
}

fn owners(connections: &mut Open) -> Result<Vec<String>> {
    let answers = aside(|| connections.0.as_mut().map(|open| open.ask(SOON)));
    answers.into_iter().flatten().map(|answer| Ok(answer.context("a connection broke")?.name)).collect()
}

/// Datagrams in a steady stream: from an address that is let through, and from one that is denied.
struct Stream {
    stop: Arc<AtomicBool>,
    arrived: Arc<AtomicU64>,
    /// In the edge's own stack.
    passed: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<u64>>>,
}

impl Stream {
    fn start(lab: &Lab) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (arrived, passed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let to: SocketAddr = (VIP4, STREAM).into();
        let count = |at: SocketAddr, counter: &Arc<AtomicU64>| {
            let (stop, counter) = (Arc::clone(&stop), Arc::clone(counter));
            move || {
                let socket = UdpSocket::bind(at)?;
                socket.set_read_timeout(Some(Duration::from_millis(50)))?;
                while !stop.load(Ordering::Relaxed) {
                    if socket.recv(&mut [0; 64]).is_ok() {
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(0)
            }
        };
        let mut threads = vec![
            lab.backends[0].spawn(count(lab.backend(0, STREAM), &arrived))?,
            lab.edge.spawn(count(([0, 0, 0, 0], STREAM).into(), &passed))?,
        ];
        let stopped = Arc::clone(&stop);
        threads.push(lab.client.spawn(move || {
            let good = UdpSocket::bind(("10.77.0.2", 0))?;
            let denied = UdpSocket::bind((DENIED, 0))?;
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                good.send_to(b"through", to)?;
                denied.send_to(b"denied", to)?;
                sent += 1;
                std::thread::sleep(Duration::from_micros(500));
            }
            Ok(sent)
        })?);
        Ok(Self { stop, arrived, passed, threads })
    }

    fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Packets that came in for a service, by what became of them.
fn packets(datapath: &KernelDatapath, verdict: &str) -> Result<u64> {
    let counters = datapath.counters()?;
    Ok(counters.packets.iter().filter(|row| row.service == 2 && row.verdict == verdict).map(|row| row.packets).sum())
}

async fn left(datapath: &mut KernelDatapath, desired: &Desired, alive: bool) -> Result<Inherited> {
    let listeners = datapath.apply(desired).await?;
    Ok(Inherited { listeners, note: if alive { datapath.note() } else { Value::Null }, alive })
}

async fn five(site: &Site) -> Result<()> {
    let mut datapath = site.serving("five").await?;
    let (mut connections, before) = site.connections()?;
    let drained = site.desired(BackendState::Draining);
    datapath.apply(&drained).await?;
    ensure!(owners(&mut connections)? == before, "the change itself moved a flow");
    // From here on every packet counts: the ways are known.
    let passed = site.stream.passed();
    let sent = |datapath: &KernelDatapath| packets(datapath, "forward_nat");
    let (first, arrived) = (sent(&datapath)?, site.stream.arrived());
    let mut programs = vec![site.program()?];
    for round in 0..5 {
        // In turn one that hands over, and one that died without a note.
        let alive = round % 2 == 0;
        let inherited = left(&mut datapath, &drained, alive).await?;
        let listeners = inherited.listeners.iter().map(|listener| listener.id).collect::<Vec<_>>();
        let mut heir = if alive {
            let mut heir = KernelDatapath::open(site.options("five"), Some(inherited)).await?;
            heir.apply(&drained).await?;
            let error = datapath.apply(&drained).await.expect_err("it was handed over");
            ensure!(matches!(error, DatapathError::HandedOver { .. }), "{error}");
            datapath.leave();
            heir
        } else {
            datapath.leave();
            KernelDatapath::open(site.options("five"), Some(inherited)).await?
        };
        let now = heir.apply(&drained).await?;
        ensure!(now.iter().map(|listener| listener.id).collect::<Vec<_>>() == listeners, "{now:?}");
        heir.tick().await;
        programs.push(site.program()?);
        ensure!(owners(&mut connections)? == before, "a flow broke in round {round}");
        let states = heir.counters()?.forwards;
        ensure!(states[0].remembered > 0 && states[0].moved > 0 && states[0].evicted == 0, "{states:?}");
        datapath = heir;
    }
    programs.dedup();
    ensure!(programs.len() == 6, "the programs were not replaced: {programs:?}");
    let counted = sent(&datapath)? - first;
    ensure!(counted > 500, "only {counted} packets came meanwhile");
    wait_ok("every packet to arrive", PATIENCE, || {
        // Whatever was counted in XDP has arrived, and goes on arriving.
        let arrived = site.stream.arrived() - arrived;
        ensure!(arrived + 2 >= counted, "{counted} were sent on, {arrived} arrived");
        Ok(())
    })?;
    ensure!(site.stream.passed() == passed, "packets that are denied reached the stack");
    ensure!(packets(&datapath, "denied")? > counted / 2);
    // The drained backend has no new flow, and the edge is a whole one: it changes, and takes itself out.
    let (_new, owners) = site.connections()?;
    ensure!(!owners.contains(&"1".to_owned()), "{owners:?}");
    datapath.close().await?;
    ensure!(!pins("five").exists());
    Ok(())
}

async fn fails(site: &Site) -> Result<()> {
    let mut datapath = site.serving("fails").await?;
    let desired = site.desired(BackendState::Up);
    let (mut connections, before) = site.connections()?;
    let program = site.program()?;
    let passed = site.stream.passed();
    let mut too_many = desired.clone();
    too_many.forwards[0].addresses[0].ports = Ports::Range(1000, 2000);

    let inherited = left(&mut datapath, &desired, true).await?;
    let mut heir = KernelDatapath::open(site.options("fails"), Some(inherited)).await?;
    let error = heir.apply(&too_many).await.expect_err("more than fits");
    ensure!(matches!(error, DatapathError::Full { .. }), "{error}");
    ensure!(site.program()? == program, "not led back");
    heir.close().await?;
    ensure!(site.program()? == program && pins("fails").join("edge").exists());
    ensure!(!pins("fails").join("new_edge").exists());
    // It was not handed over, and changes as ever.
    datapath.apply(&site.desired(BackendState::Draining)).await?;
    ensure!(owners(&mut connections)? == before);
    datapath.apply(&desired).await?;

    // After a death: an heir that does not get to its first change, and one whose first change is refused at first.
    let inherited = left(&mut datapath, &desired, false).await?;
    datapath.leave();
    KernelDatapath::open(site.options("fails"), Some(inherited.clone())).await?.close().await?;
    ensure!(site.program()? == program && owners(&mut connections)? == before);
    let mut heir = KernelDatapath::open(site.options("fails"), Some(inherited)).await?;
    heir.apply(&too_many).await.expect_err("more than fits");
    ensure!(site.program()? == program && owners(&mut connections)? == before);
    heir.apply(&desired).await?;
    ensure!(site.program()? != program && owners(&mut connections)? == before);
    ensure!(site.stream.passed() == passed, "packets that are denied reached the stack");
    Ok(heir.close().await?)
}

async fn retaken(site: &Site) -> Result<()> {
    let mut datapath = site.serving("retaken").await?;
    let desired = site.desired(BackendState::Up);
    let (mut connections, before) = site.connections()?;
    let program = site.program()?;
    let inherited = left(&mut datapath, &desired, true).await?;
    let mut heir = KernelDatapath::open(site.options("retaken"), Some(inherited)).await?;
    // It changes what it likes: another pool, another service, nobody denied.
    let mut other = site.desired(BackendState::Draining);
    other.forwards.pop();
    other.forwards.push(forward(3, 7003, &[(site.lab.backend(2, 7002), BackendState::Up)]));
    other.prefixes = Arc::default();
    heir.apply(&other).await?;
    heir.leave();
    datapath.tick().await;
    datapath.apply(&desired).await.expect_err("it was handed over");

    datapath.retake().await?;
    ensure!(site.program()? == program);
    let (passed, arrived) = (site.stream.passed(), site.stream.arrived());
    ensure!(owners(&mut connections)? == before, "a flow broke");
    wait_ok("the stream to go on", PATIENCE, || {
        ensure!(site.stream.arrived() > arrived + 100);
        Ok(())
    })?;
    ensure!(site.stream.passed() == passed, "packets that are denied reach the stack");
    let tcp = |port| datapath.flow(Protocol::Tcp, ([10, 77, 0, 2], 9).into(), (VIP4, port).into());
    ensure!(tcp(7003).is_some_and(|answer| answer.service.is_none()));
    datapath.apply(&site.desired(BackendState::Draining)).await?;
    ensure!(owners(&mut connections)? == before, "a flow broke");
    datapath.close().await?;
    ensure!(!pins("retaken").exists());
    Ok(())
}

async fn unfit(site: &Site) -> Result<()> {
    let mut datapath = site.serving("unfit").await?;
    let desired = site.desired(BackendState::Up);
    let larger = KernelOptions { max_services: 17, ..site.options("unfit") };
    let program = site.program()?;
    let inherited = left(&mut datapath, &desired, true).await?;
    let error = KernelDatapath::open(larger.clone(), Some(inherited.clone())).await.err().context("not refused")?;
    ensure!(matches!(error, DatapathError::Resized { key: "max_services" }), "{error}");
    let format = pins("unfit").join("FORMAT");
    std::fs::remove_file(&format)?;
    std::os::unix::fs::symlink("0.2", &format)?;
    for alive in [true, false] {
        let inherited = Inherited { alive, ..inherited.clone() };
        let opened = KernelDatapath::open(site.options("unfit"), Some(inherited));
        let error = match alive {
            true => opened.await.err().context("not refused")?,
            false => {
                datapath.leave();
                let error = opened.await.err().context("not refused")?;
                datapath = KernelDatapath::open(site.options("unfit"), None).await?;
                error
            }
        };
        ensure!(matches!(&error, DatapathError::Version { theirs, .. } if theirs == "0.2"), "{error}");
        ensure!(site.program()? == program);
    }
    // Of the dead one the place is taken: never off, though nothing of it is read.
    let (passed, arrived) = (site.stream.passed(), site.stream.arrived());
    datapath.apply(&desired).await?;
    ensure!(site.program()? != program);
    datapath.leave();
    datapath = KernelDatapath::open(larger, None).await?;
    datapath.apply(&desired).await?;
    datapath.tick().await;
    wait_ok("the stream to go on", PATIENCE, || {
        ensure!(site.stream.arrived() > arrived + 100);
        Ok(())
    })?;
    ensure!(site.stream.passed() == passed, "packets that are denied reached the stack");
    let (_connections, _) = site.connections()?;
    datapath.close().await?;
    ensure!(!pins("unfit").exists());
    Ok(())
}

fn pins(name: &str) -> PathBuf {
    let name = options(name, Steering::Hash).name.replace('.', "+");
    PathBuf::from(format!("/sys/fs/bpf/bailey-{name}"))
}
