//! The reference pages, read as data: what they name must be true.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A row of docs/metrics.md.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// `counter`, `gauge`, `histogram`.
    pub kind: String,
    /// Names.
    pub labels: Vec<String>,
}

/// The workspace's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A file of the workspace.
pub fn read(file: impl AsRef<Path>) -> Result<String> {
    let file = root().join(file);
    std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))
}

/// Every metric in docs/metrics.md.
pub fn documented_metrics() -> Result<BTreeMap<String, Metric>> {
    let text = read("docs/metrics.md")?;
    let rows = text.lines().filter(|line| line.starts_with("| `bailey_")).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let labels = cells[2].split(',').map(|label| label.trim().trim_matches('`').to_string());
        let metric = Metric { kind: cells[1].into(), labels: labels.filter(|label| !label.is_empty()).collect() };
        (cells[0].trim_matches('`').to_string(), metric)
    });
    Ok(rows.collect())
}

/// A key of docs/config.md, with its section: `("pool.NAME.tls", "ca")`.
pub fn documented_keys() -> Result<Vec<(String, String)>> {
    let text = read("docs/config.md")?;
    let (mut section, mut keys) = (String::new(), Vec::new());
    for line in text.lines() {
        if line.starts_with('#') {
            // A heading without brackets is no table of the config.
            let title = line.trim_start_matches('#').trim().strip_prefix('[');
            section = title.unwrap_or_default().trim_matches(['[', ']']).to_string();
        } else if let Some(key) = line.strip_prefix("| `").and_then(|rest| rest.split('`').next())
            && !section.is_empty()
        {
            keys.push((section.clone(), key.to_string()));
        }
    }
    Ok(keys)
}

/// Every file under the workspace's own folders whose name ends so; nothing built, nothing hidden.
pub fn files(ending: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with('.') || name == "target" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
