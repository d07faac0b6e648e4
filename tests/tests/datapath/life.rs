//! Opening, changing and closing: what is left behind, what is refused, what is taken over.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use lb_tests::privilege;
use lb_user::datapath::{Datapath as _, DatapathError, Desired, KernelDatapath, KernelOptions, Steering, Worker};
use libtest_mimic::{Failed, Trial};

use crate::edge::*;
use crate::lab::*;

/// Says to this program that it is to be an edge and nothing else.
pub(crate) const HOLD: &str = "--hold-an-edge-named";
const READY: &str = "ready";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("close leaves nothing behind", || in_lab(close)),
        Trial::test("a change that does not fit changes nothing", || in_lab(refused)),
        Trial::test("a service comes and goes while another is served", || in_lab(changes)),
        Trial::test("an address that is the host's own is not touched", || in_lab(own_address)),
        Trial::test("an interface with another's program is refused by its name", || in_lab(foreign)),
        Trial::test("a name that lives is refused", || in_lab(occupied)),
        Trial::test("an unknown interface is refused with those there are", || in_lab(no_interface)),
        Trial::test("a worker on a CPU that is not there is refused", || in_lab(no_cpu)),
        Trial::test("what a killed edge left is taken over", || in_lab(killed)),
        Trial::test("without privilege it says so", || in_lab(unprivileged)),
        Trial::test("packets are logged when sampling is on", || in_lab(sampled)),
    ]
}

/// What the child process does: open, serve, say so, and wait to be killed.
pub(crate) fn hold(name: &str) -> ! {
    block_on(async {
        let mut datapath = match KernelDatapath::open(options_named(name), None).await {
            Ok(datapath) => datapath,
            Err(e) => {
                println!("{e}");
                std::process::exit(1);
            }
        };
        datapath.apply(&desired()).await.expect("services");
        println!("{READY}");
        std::future::pending::<()>().await;
    });
    unreachable!("it waits for ever")
}

fn in_lab(test: impl AsyncFnOnce(&Lab) -> Result<(), Failed> + Send) -> Result<(), Failed> {
    let lab = Lab::new()?;
    lab.in_edge(|| block_on(test(&lab)))
}

fn options_named(name: &str) -> KernelOptions {
    KernelOptions { name: name.to_owned(), ..options("", Steering::Hash) }
}

/// Everything that an edge puts into the kernel.
fn traces(lab: &Lab) -> Result<Vec<String>, String> {
    let mut traces = Vec::new();
    for line in lab.edge_ip("-o link show")?.lines().filter(|line| line.contains("xdp")) {
        traces.push(line.to_owned());
    }
    for family in ["-4", "-6"] {
        for line in lab.edge_ip(&format!("{family} route show table local proto 177"))?.lines() {
            traces.push(line.to_owned());
        }
    }
    Ok(traces)
}

fn pins(name: &str) -> String {
    format!("/sys/fs/bpf/bailey-{}", name.replace('.', "+"))
}

async fn close(lab: &Lab) -> Result<(), Failed> {
    let options = options("close", Steering::Hash);
    let pins = pins(&options.name);
    let mut datapath = KernelDatapath::open(options, None).await?;
    datapath.apply(&desired()).await?;
    let open = traces(lab)?;
    assert_eq!(open.iter().filter(|trace| trace.contains("xdp")).count(), 1, "{open:?}");
    assert_eq!(open.iter().filter(|trace| trace.starts_with("local")).count(), 4, "{open:?}");
    assert_eq!(datapath.describe().pins.as_deref(), Some(&pins[..]));
    for pin in ["edge", "steer", "link_steer", "link_e0+77", "SERVICES", "VIPS", "COUNTERS"] {
        assert!(Path::new(&pins).join(pin).exists(), "{pin}");
    }
    datapath.close().await?;
    assert_eq!(traces(lab)?, Vec::<String>::new());
    assert!(!Path::new(&pins).exists());
    Ok(())
}

async fn refused(lab: &Lab) -> Result<(), Failed> {
    let mut datapath = KernelDatapath::open(options("refused", Steering::Hash), None).await?;
    let listeners = datapath.apply(&desired()).await?;
    let before = traces(lab)?;
    let many: Vec<String> = (1..40).map(|i| format!("203.0.113.{i}")).collect();
    let many: Vec<(&str, Option<u16>)> = many.iter().map(|address| (&address[..], Some(80))).collect();
    let error = datapath
        .apply(&Desired { services: vec![service(1, &many)], ..Desired::default() })
        .await
        .expect_err("too many");
    assert!(matches!(error, DatapathError::Full { key: "max_addresses", count: 39, bound: 32, .. }), "{error}");
    assert_eq!(traces(lab)?, before);
    let _client = lab.connect(at(VIP4, 443), privilege::cpus()[0])?;
    accept(&listeners)?;
    Ok(datapath.close().await?)
}

async fn changes(lab: &Lab) -> Result<(), Failed> {
    let mut datapath = KernelDatapath::open(options("changes", Steering::Hash), None).await?;
    let cpu = privilege::cpus()[0];
    let listeners =
        datapath.apply(&Desired { services: vec![service(1, &[(VIP4, Some(443))])], ..Desired::default() }).await?;
    lab.connect(at(VIP6, 443), cpu).expect_err("not a service yet");
    let both = vec![service(1, &[(VIP4, Some(443))]), service(2, &[(VIP6, Some(443))])];
    let same = datapath.apply(&Desired { services: both, ..Desired::default() }).await?;
    assert_eq!(ids(&listeners), ids(&same));
    for address in [VIP4, VIP6] {
        let _client = lab.connect(at(address, 443), cpu)?;
        accept(&listeners)?;
    }
    datapath.apply(&Desired { services: vec![service(2, &[(VIP6, Some(443))])], ..Desired::default() }).await?;
    lab.connect(at(VIP4, 443), cpu).expect_err("no service any more");
    assert_eq!(datapath.describe().addresses, vec![at(VIP6, 0).ip()]);
    let _client = lab.connect(at(VIP6, 443), cpu)?;
    accept(&listeners)?;
    Ok(datapath.close().await?)
}

fn ids(listeners: &[lb_user::datapath::Listener]) -> Vec<u64> {
    listeners.iter().map(|listener| listener.id).collect()
}

async fn own_address(lab: &Lab) -> Result<(), Failed> {
    let mut datapath = KernelDatapath::open(options("own", Steering::Hash), None).await?;
    let before = lab.edge_ip("route show table local")?;
    let listeners =
        datapath.apply(&Desired { services: vec![service(1, &[(EDGE4, Some(443))])], ..Desired::default() }).await?;
    assert_eq!(lab.edge_ip("route show table local")?, before);
    let _client = lab.connect(at(EDGE4, 443), privilege::cpus()[0])?;
    accept(&listeners)?;
    datapath.close().await?;
    assert_eq!(lab.edge_ip("route show table local")?, before);
    Ok(())
}

async fn foreign(lab: &Lab) -> Result<(), Failed> {
    let theirs = KernelDatapath::open(options("theirs", Steering::Hash), None).await?;
    let before = traces(lab)?;
    let error = KernelDatapath::open(options("ours", Steering::Hash), None).await.err().ok_or("not refused")?;
    let DatapathError::ForeignProgram { interface, program, id } = &error else {
        return Err(format!("refused with {error}").into());
    };
    assert_eq!((&interface[..], &program[..]), (INTERFACE, "edge"));
    assert!(before[0].contains(&format!("id {id}")), "{error}: {before:?}");
    assert_eq!(traces(lab)?, before);
    assert!(!Path::new(&pins(&options("ours", Steering::Hash).name)).exists());
    Ok(theirs.close().await?)
}

async fn occupied(_: &Lab) -> Result<(), Failed> {
    let first = KernelDatapath::open(options("twice", Steering::Hash), None).await?;
    let error = KernelDatapath::open(options("twice", Steering::Hash), None).await.err().ok_or("not refused")?;
    assert!(matches!(error, DatapathError::Occupied { .. }), "{error}");
    Ok(first.close().await?)
}

async fn no_interface(_: &Lab) -> Result<(), Failed> {
    let interfaces = vec![INTERFACE.to_owned(), "eth77".to_owned()];
    let options = KernelOptions { interfaces, ..options("none", Steering::Hash) };
    let error = KernelDatapath::open(options, None).await.err().ok_or("not refused")?.to_string();
    assert!(error.contains("\"eth77\"") && error.contains("e0.77, lo"), "{error}");
    Ok(())
}

async fn no_cpu(lab: &Lab) -> Result<(), Failed> {
    let workers = vec![Worker { index: 0, cpu: 9999 }];
    let options = KernelOptions { workers, ..options("cpu", Steering::Hash) };
    let error = KernelDatapath::open(options, None).await.err().ok_or("not refused")?.to_string();
    assert!(error.contains("CPU 9999"), "{error}");
    assert_eq!(traces(lab)?, Vec::<String>::new());
    Ok(())
}

async fn killed(lab: &Lab) -> Result<(), Failed> {
    let name = options("killed", Steering::Hash).name;
    let (mut child, said) = hold_in(lab, &name, &[])?;
    assert_eq!(said, READY);
    child.kill()?;
    child.wait()?;
    let left = traces(lab)?;
    assert_eq!(left.len(), 5, "one program, four routes: {left:?}");

    let mut datapath = KernelDatapath::open(options_named(&name), None).await?;
    assert_eq!(traces(lab)?, left, "until the first change everything is as it was");
    let listeners = datapath.apply(&desired()).await?;
    assert_eq!(traces(lab)?.len(), 5);
    assert_ne!(traces(lab)?[0], left[0], "another program");
    let _client = lab.connect(at(VIP4, 443), privilege::cpus()[0])?;
    accept(&listeners)?;
    datapath.close().await?;
    assert_eq!(traces(lab)?, Vec::<String>::new());
    Ok(())
}

async fn unprivileged(lab: &Lab) -> Result<(), Failed> {
    let name = options("nobody", Steering::Hash).name;
    let (mut child, said) = hold_in(lab, &name, &["setpriv", "--reuid=65534", "--clear-groups"])?;
    assert!(said.contains("no permission") && said.contains("datapath = \"sockets\""), "{said}");
    assert!(!child.wait()?.success());
    assert!(!Path::new(&pins(&name)).exists());
    Ok(())
}

/// This program again, as an edge in the lab's namespace; with the first line that it says.
fn hold_in(lab: &Lab, name: &str, wrapper: &[&str]) -> Result<(Child, String), Failed> {
    let namespace = format!("--net=/run/netns/{}", lab.edge_name());
    let this = std::env::current_exe()?;
    // Not `ip netns exec`, which would mount another /sys, and with it another BPF file system.
    let mut child = Command::new("nsenter")
        .arg(namespace)
        .args(wrapper)
        .arg(this)
        .args([HOLD, name])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut said)?;
    Ok((child, said.trim().to_owned()))
}

async fn sampled(lab: &Lab) -> Result<(), Failed> {
    let lines = crate::log::Lines::collect();
    let options = KernelOptions { packet_log_sample: 1, ..options("sampled", Steering::Hash) };
    let mut datapath = KernelDatapath::open(options, None).await?;
    let listeners = datapath.apply(&desired()).await?;
    for address in [VIP4, VIP6] {
        let _client = lab.connect(at(address, 443), privilege::cpus()[0])?;
        accept(&listeners)?;
    }
    lines.wait_for(&["service 1 bytes 74 10.77.0.1 > 203.0.113.10", "fd77::1 > 2001:db8:ed9e::10"]).await?;
    Ok(datapath.close().await?)
}
