//! What an edge has put into the kernel, as a stranger sees it.

use std::path::Path;

use anyhow::Result;

use crate::lab::Lab;

/// Traces of the lab's edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// An XDP program sits on the client's side.
    pub program: bool,
    /// The instance's pin directory exists.
    pub pins: bool,
    /// Local routes into the VIPs' networks.
    pub routes: Vec<String>,
    /// Programs and maps attached to the network namespace (sk_lookup).
    pub lookups: bool,
}

impl Left {
    /// Look.
    pub fn see(lab: &Lab) -> Result<Self> {
        let link = lab.edge.output("ip", &["-d", "link", "show", "dev", "wan"])?;
        let mut routes = Vec::new();
        for family in ["-4", "-6"] {
            let table = lab.edge.output("ip", &[family, "route", "show", "table", "local"])?;
            routes.extend(
                table.lines().filter(|line| line.contains("10.99.") || line.contains("fd99:")).map(String::from),
            );
        }
        let pins = Path::new("/sys/fs/bpf").join(format!("bailey-{}", lab.name)).exists();
        Ok(Self { program: link.contains("prog/xdp"), pins, routes, lookups: lookups(lab)? })
    }

    /// Nothing at all?
    pub fn is_nothing(&self) -> bool {
        !self.program && !self.pins && self.routes.is_empty() && !self.lookups
    }
}

/// A listener that sk_lookup would take cannot be told from outside, but a link can: its namespace's inode is in
/// the descriptors' info of whoever holds it. Nobody holding one, nobody has pinned one: it is gone.
fn lookups(lab: &Lab) -> Result<bool> {
    use std::os::linux::fs::MetadataExt;
    let inode = std::fs::metadata(format!("/run/netns/{}", lab.edge.name()))?.st_ino();
    let needle = format!("netns_ino:\t{inode}");
    for process in std::fs::read_dir("/proc")?.flatten() {
        let Ok(infos) = std::fs::read_dir(process.path().join("fdinfo")) else { continue };
        let mut texts = infos.flatten().filter_map(|info| std::fs::read_to_string(info.path()).ok());
        if texts.any(|text| text.contains(&needle)) {
            return Ok(true);
        }
    }
    Ok(false)
}
