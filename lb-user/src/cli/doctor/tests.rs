//! Hosts that are good, and what is said of others.

use super::host::{Facts, Interface};
use super::{Finding, Verdict, config, judge, shown};
use crate::config::{DatapathKind, Edge};
use crate::reconcile::testing;
use std::time::{Duration, SystemTime};

fn good() -> Facts {
    let sysctls = [("net/core/somaxconn", "4096"), ("net/core/bpf_jit_enable", "1")];
    Facts {
        kernel: "6.1.0-13-amd64".into(),
        btf: true,
        bpf_fs: true,
        capabilities: u64::MAX,
        open_files: Some(1 << 20),
        sysctls: sysctls.into_iter().map(|(name, value)| (name, value.to_owned())).collect(),
        interfaces: [("eth0".to_owned(), interface())].into(),
        now: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
        clock_keeper: Some("chronyd".into()),
    }
}

fn interface() -> Interface {
    Interface { up: true, driver: Some("ixgbe".into()), queues: 8, mtu: Some(1500) }
}

fn edge() -> Edge {
    let edge = testing::config(&["web"], [].into()).edge;
    Edge { datapath: DatapathKind::Native, interfaces: vec!["eth0".into()], ..edge }
}

#[test]
fn a_good_host_has_nothing_to_be_done() {
    let all = judge::findings(&good(), Some(&edge()));
    assert!(all.iter().all(|finding| finding.verdict == Verdict::Ok && finding.next.is_none()), "{all:?}");
    assert!(judge::findings(&good(), None).iter().all(|finding| finding.verdict == Verdict::Ok));
}

#[test]
fn what_is_wrong_is_told_with_what_to_do() {
    type Spoilt = (&'static str, Verdict, fn(&mut Facts));
    let spoilt: [Spoilt; 13] = [
        ("5.18 or later", Verdict::Fail, |facts| facts.kernel = "5.15.0".into()),
        ("CONFIG_DEBUG_INFO_BTF", Verdict::Fail, |facts| facts.btf = false),
        ("mount -t bpf", Verdict::Warn, |facts| facts.bpf_fs = false),
        ("CAP_BPF", Verdict::Fail, |facts| facts.capabilities = 1 << 12 | 1 << 13),
        ("LimitNOFILE", Verdict::Warn, |facts| facts.open_files = Some(1024)),
        ("net.core.somaxconn=65535", Verdict::Warn, |facts| {
            drop(facts.sysctls.insert("net/core/somaxconn", "128".into()))
        }),
        ("bpf_jit_enable=1", Verdict::Warn, |facts| drop(facts.sysctls.insert("net/core/bpf_jit_enable", "0".into()))),
        ("10240 65535", Verdict::Warn, |facts| {
            drop(facts.sysctls.insert("net/ipv4/ip_local_port_range", "32768\t40000".into()));
        }),
        ("ip link", Verdict::Fail, |facts| facts.interfaces.clear()),
        ("ip link set eth0 up", Verdict::Warn, |facts| {
            drop(facts.interfaces.insert("eth0".into(), Interface { up: false, ..interface() }));
        }),
        ("MTU", Verdict::Warn, |facts| {
            drop(facts.interfaces.insert("eth0".into(), Interface { mtu: Some(9000), ..interface() }));
        }),
        ("chrony", Verdict::Warn, |facts| facts.clock_keeper = None),
        ("set it", Verdict::Fail, |facts| facts.now = Some(SystemTime::UNIX_EPOCH)),
    ];
    for (word, verdict, spoil) in spoilt {
        let mut facts = good();
        spoil(&mut facts);
        let all = judge::findings(&facts, Some(&edge()));
        let bad: Vec<&Finding> = all.iter().filter(|finding| finding.verdict != Verdict::Ok).collect();
        let [finding] = bad[..] else { panic!("{word}: {bad:?}") };
        assert_eq!(finding.verdict, verdict, "{finding:?}");
        assert!(format!("{} {:?}", finding.found, finding.next).contains(word), "{word}: {finding:?}");
    }
}

#[test]
fn sockets_need_neither_bpf_nor_capabilities() {
    let facts = Facts { btf: false, capabilities: 0, kernel: "5.4".into(), ..good() };
    let edge = Edge { datapath: DatapathKind::Sockets, interfaces: vec![], ..edge() };
    let all = judge::findings(&facts, Some(&edge));
    assert!(all.iter().all(|finding| finding.verdict != Verdict::Fail), "{all:?}");
}

#[test]
fn a_state_directory_is_ours_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(config::state(Some(dir.path())).verdict, Verdict::Ok);
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(config::state(Some(dir.path())).verdict, Verdict::Fail);
    assert_eq!(config::state(Some(&dir.path().join("none"))).verdict, Verdict::Warn);
    assert_eq!(config::state(None).verdict, Verdict::Warn);
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(config::state(Some(&file)).verdict, Verdict::Fail);
}

#[test]
fn findings_are_a_line_each_and_a_sum() {
    let text = shown(&[Finding::ok("kernel", "good"), Finding::fail("BPF", "none", "do this")]);
    let plain = anstream::adapter::strip_str(&text).to_string();
    assert_eq!(
        plain,
        "ok    kernel  good\nFAIL  BPF     none\n              do this\n1 good, 0 to look at, 1 failed\n"
    );
}
