//! Asking DNS: [`Lookup`] is the seam, [`Dns`] asks with hickory. Nothing is remembered here: what holds for how long is
//! the machine's to know.

use super::machine::Heard;
use crate::config;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::{Resolver, TokioResolver};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Whom the host asks.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Names that the host knows by itself.
const HOSTS: &str = "/etc/hosts";
/// What /etc/hosts says holds for so long.
const MAX_TTL: Duration = Duration::from_secs(86_400);

/// Who is asked.
pub trait Lookup: Clone + Send + Sync + 'static {
    /// By these rules from now on.
    fn rules(&mut self, rules: &config::Dns);
    /// The addresses of a name, IPv4 or IPv6.
    fn lookup(&self, host: &str, v6: bool) -> impl Future<Output = Heard> + Send;
}

/// DNS.
#[derive(Clone)]
pub struct Dns {
    /// Or why there is none.
    resolver: Result<Arc<TokioResolver>, String>,
    rules: config::Dns,
    /// The host's files as they were.
    files: [Option<SystemTime>; 2],
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Dns {
    /// By these rules.
    pub fn new(rules: &config::Dns) -> Self {
        let files = [RESOLV_CONF, HOSTS].map(changed);
        Dns { resolver: resolver(rules).map(Arc::new), rules: rules.clone(), files }
    }
}

impl Lookup for Dns {
    fn rules(&mut self, rules: &config::Dns) {
        // The host may have another server now, as one that moves between networks has.
        let files = [RESOLV_CONF, HOSTS].map(changed);
        if self.rules != *rules || (rules.servers.is_empty() && (self.files != files || self.resolver.is_err())) {
            *self = Dns::new(rules);
        }
    }

    async fn lookup(&self, host: &str, v6: bool) -> Heard {
        let resolver = match &self.resolver {
            Ok(resolver) => resolver,
            Err(why) => return Heard::Failed(why.clone()),
        };
        let kind = if v6 { RecordType::AAAA } else { RecordType::A };
        // Its own deadlines are for one question; names that are aliases ask several.
        let asked = tokio::time::timeout(self.rules.deadline(), resolver.lookup(host, kind));
        match asked.await {
            Err(_) => Heard::Failed(format!("no answer within {:?}", self.rules.deadline())),
            Ok(Ok(answer)) => {
                let records = answer.answers();
                let addresses: BTreeSet<IpAddr> = records.iter().filter_map(|record| record.data.ip_addr()).collect();
                // Of aliases on the way, too.
                let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(0);
                match addresses.is_empty() {
                    true => Heard::Nothing(None),
                    false => Heard::Addresses(addresses, Duration::from_secs(ttl.into()).min(MAX_TTL)),
                }
            }
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(none)))) => {
                Heard::Nothing(none.negative_ttl.map(|seconds| Duration::from_secs(seconds.into())))
            }
            Ok(Err(error)) => Heard::Failed(error.to_string()),
        }
    }
}

fn changed(path: &str) -> Option<SystemTime> {
    std::fs::metadata(Path::new(path)).and_then(|meta| meta.modified()).ok()
}

fn resolver(rules: &config::Dns) -> Result<TokioResolver, String> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = if rules.servers.is_empty() {
        Resolver::builder(provider).map_err(|error| format!("{RESOLV_CONF}: {error}"))?
    } else {
        let server = |address: &std::net::SocketAddr| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            let on = |one: ConnectionConfig| {
                let mut one = one;
                one.port = address.port();
                one
            };
            server.connections = std::mem::take(&mut server.connections).into_iter().map(on).collect();
            server
        };
        let servers = rules.servers.iter().map(server).collect();
        Resolver::builder_with_config(ResolverConfig::from_parts(None, Vec::new(), servers), provider)
    };
    let options = builder.options_mut();
    options.timeout = rules.timeout;
    options.attempts = rules.tries.saturating_sub(1) as usize;
    options.cache_size = 0;
    if !rules.servers.is_empty() {
        // Who names servers wants them to be asked, whatever the host knows by itself.
        options.use_hosts_file = ResolveHosts::Never;
    }
    builder.build().map_err(|error| error.to_string())
}
