//! What an edge keeps, by its config. What comes of it in a process is for `tests/tests/privileges`.

use super::*;

fn kept_for(edge: &str, metrics: &str) -> CapabilitySet {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bailey.toml");
    std::fs::write(&file, format!("[edge]\n{edge}\n[admin]\nmetrics = \"{metrics}\"\n")).unwrap();
    kept(&crate::config::load(&file).unwrap().config)
}

#[test]
fn an_edge_keeps_what_its_datapath_needs() {
    let kernel = PACKETS | CapabilitySet::NET_RAW;
    let listeners = CapabilitySet::NET_RAW | CapabilitySet::NET_BIND_SERVICE;
    assert_eq!(kept_for("interfaces = [\"lo\"]\ndatapath = \"generic\"", "127.0.0.1:9422"), kernel);
    assert_eq!(
        kept_for("interfaces = [\"lo\"]\ndatapath = \"generic\"", "127.0.0.1:942"),
        kernel | CapabilitySet::NET_BIND_SERVICE
    );
    assert_eq!(kept_for("datapath = \"sockets\"", "127.0.0.1:9422"), listeners);
}

#[test]
fn nothing_is_gained_by_keeping() {
    let had = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::BPF | CapabilitySet::SYS_ADMIN,
        inheritable: CapabilitySet::SYS_ADMIN,
    };
    let left = limited(had, PACKETS);
    assert_eq!((left.effective, left.permitted), (CapabilitySet::BPF, CapabilitySet::BPF));
    assert!(left.inheritable.is_empty());
}
