//! What the kernel does not say, for the edge after this one. It is a help: without it everything is gone on with all the
//! same, but settings stay as they were changed, and changes of pools that are in progress take their time anew.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::forward::{Forwarding, Noted as NotedForward};
use super::shield::{SYN_COOKIES_NAME, Shield};
use super::sysctl::{Noted as NotedSetting, Sysctl};

/// A note of another version is not read.
const VERSION: u32 = 1;

/// Everything that is noted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    version: u32,
    settings: Vec<NotedSetting>,
    /// By service.
    pub(super) forwards: BTreeMap<u32, NotedForward>,
}

impl Note {
    pub(super) fn of(routing: &[Sysctl], shield: &Shield, forwarding: &Forwarding) -> Self {
        let settings = routing.iter().filter_map(Sysctl::noted).chain(shield.noted()).collect();
        Self { version: VERSION, settings, forwards: forwarding.noted() }
    }

    /// What an edge noted; nothing, where this version cannot read it.
    pub(super) fn read(value: &serde_json::Value) -> Self {
        match Self::deserialize(value) {
            Ok(note) if note.version == VERSION => note,
            _ if value.is_null() => Self::default(),
            _ => {
                tracing::warn!(
                    "the note of the edge before is of another version; the kernel's tables tell most of it"
                );
                Self::default()
            }
        }
    }

    pub(super) fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Settings that forwarding needs, as they were changed.
    pub(super) fn routing(&self) -> impl Iterator<Item = &NotedSetting> {
        self.settings.iter().filter(|noted| noted.name != SYN_COOKIES_NAME)
    }

    /// How the kernel's SYN cookies were set.
    pub(super) fn syn_cookies(&self) -> Option<&NotedSetting> {
        self.settings.iter().find(|noted| noted.name == SYN_COOKIES_NAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the first version that had one wrote it.
    const STORED: &str = r#"{"version":1,"settings":[{"name":"ipv4/conf/lo/forwarding","before":"0"},
        {"name":"ipv4/tcp_syncookies","before":"1"}],"forwards":{"2":{"moving_until":77,"purged":3,"evicted":1,
        "backends":[["10.0.0.7:53",4],["[2001:db8::7]:53",5]]}}}"#;

    #[test]
    fn a_stored_note_is_read_and_written_as_it_was() {
        let stored: serde_json::Value = serde_json::from_str(STORED).unwrap();
        let note = Note::read(&stored);
        assert_eq!(note.to_value(), stored);
        assert_eq!(note.routing().count(), 1);
        assert!(note.syn_cookies().is_some() && note.forwards.contains_key(&2));
    }

    #[test]
    fn a_note_of_another_version_or_shape_is_none() {
        for text in ["null", "{}", "[1]", r#"{"version":2,"settings":[],"forwards":{}}"#, r#"{"version":"1"}"#] {
            assert_eq!(Note::read(&serde_json::from_str(text).unwrap()), Note::default(), "{text}");
        }
    }

    #[test]
    fn a_setting_of_another_place_is_not_taken() {
        let noted = |name: &str| serde_json::json!({"name": name, "before": "1"});
        let taken = |name: &str| {
            let noted: NotedSetting = serde_json::from_value(noted(name)).unwrap();
            // What is taken is put back when it is dropped.
            Sysctl::inherited(&noted).map(Sysctl::leave).is_some()
        };
        assert!(taken("ipv4/conf/lo/forwarding"));
        assert!(!taken("../../etc/passwd") && !taken("") && !taken("/ipv4"));
    }
}
