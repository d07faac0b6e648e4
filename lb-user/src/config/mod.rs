//! The config: text to checked model. Every problem of a file is found at once, each with its place, and a model
//! exists only when there is no error.
//!
//! `text -> toml_span values -> [Section] readers -> [Config]`. Nothing here changes anything or asks the network.

mod admin;
mod backends;
mod certificate;
mod check;
mod connections;
mod dns;
mod edge;
mod files;
mod forward;
mod forwarding;
mod health;
mod host;
mod http;
mod life;
mod model;
mod names;
mod net;
mod overlap;
mod pool;
mod problem;
mod refresh;
mod refs;
mod routes;
mod scalar;
mod section;
mod service;
mod shield;
#[cfg(test)]
mod tests;
mod tls;
mod tuning;

pub use dns::{Dns, Families};
pub use files::{FileKind, Stale};
pub use forwarding::{Conflict, conflicts};
pub use host::Host;
pub use model::*;
pub use names::{Addresses, FoundBy, NamedBackend, Resolved};
pub use net::{prefix, prefix_file};
pub use problem::{Problem, ProblemView, Problems, Severity, nearest};
pub use refresh::{Refreshed, refresh};
pub use routes::DEFAULT_ROUTE;
pub use scalar::{backend_address, dns_name, is_name, period};

use files::{Fallen, Files};
use refs::Refs;
use section::{At, Section};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A config file is at most so long, bytes.
const MAX_FILE: u64 = 16 << 20;

/// A config that can be used, and what was warned of.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The model.
    pub config: Config,
    /// Warnings only.
    pub warnings: Problems,
}

/// Why there is no config.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It has errors; warnings stand among them.
    #[error("{}", summary(.0))]
    Invalid(Problems),
}

/// Read and check a file against this host.
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    let read = |source| LoadError::Read { path: path.to_owned(), source };
    let meta = std::fs::metadata(path).map_err(read)?;
    if !meta.is_file() || meta.len() > MAX_FILE {
        return Err(read(std::io::Error::other(format!("not a file of at most {MAX_FILE} bytes"))));
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    parse(&text, path, &Host::this())
}

/// Check a text. `path` names it in problems, and relative paths in it begin at its directory.
pub fn parse(text: &str, path: &Path, host: &Host) -> Result<Loaded, LoadError> {
    let origin = Origin { path: path.to_owned(), text: text.into() };
    let (loaded, _) = read(&origin, host, None)?;
    Ok(loaded)
}

/// Read a text; where there is one in force, over it.
fn read(origin: &Origin, host: &Host, previous: Option<&Config>) -> Result<(Loaded, Vec<Stale>), LoadError> {
    let mut problems = Problems::new(&origin.path, &origin.text);
    let mut fallen = Vec::new();
    let config = match toml_span::parse(&origin.text) {
        Ok(root) => {
            let dir = origin.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            // The daemon's working directory is not the operator's.
            let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
            let mut files = Files::new(&dir, previous);
            let config = model(&root, &mut problems, host, &mut files);
            let (seen, contents, bad) = files.finish();
            fallen = bad;
            config.map(|config| Config { origin: origin.clone(), files: seen, contents, ..config })
        }
        Err(error) => {
            problems.push(syntax(error));
            None
        }
    };
    let stale = |Fallen { kind, name, problem }| Stale { kind, name, problem: problems.view(&problem) };
    let stale = fallen.into_iter().map(stale).collect();
    problems.sort();
    match config {
        Some(config) if !problems.has_errors() => Ok((Loaded { config, warnings: problems }, stale)),
        _ => Err(LoadError::Invalid(problems)),
    }
}

/// The model; what was read of files is filled in by the caller.
fn model(root: &toml_span::Value<'_>, p: &mut Problems, host: &Host, files: &mut Files<'_>) -> Option<Config> {
    let mut root = Section::of(p, String::new(), 0..0, root)?;
    let edge_section = root.section(p, "edge").unwrap_or_else(|| Section::absent("[edge]"));
    let edge = edge::edge(edge_section, p, host, files.dir);
    let admin_section = root.section(p, "admin").unwrap_or_else(|| Section::absent("[admin]"));
    let admin = admin::admin(admin_section, p, host, files.dir);
    let tls_section = root.section(p, "tls").unwrap_or_else(|| Section::absent("[tls]"));
    let tls = tls::global::tls(tls_section, p, files);

    let dns_section = root.section(p, "dns").unwrap_or_else(|| Section::absent("[dns]"));
    let dns = dns::dns(dns_section, p);

    let policy_sections = root.named(p, "tls_policy");
    let certificate_sections = root.named(p, "certificate");
    let pool_sections = root.named(p, "pool");
    let authorizer_sections = root.named(p, "authorizer");
    let log_sections = root.named(p, "access_log");
    let service_sections = root.named(p, "service");
    let shield_section = root.section(p, "shield");
    root.finish(p);

    let mut prefixes = Prefixes::new();
    shield::every(shield_section, p, files.prefix_dir(), edge.datapath, &mut prefixes);
    let names = |sections: &[(At<String>, Section<'_>)]| sections.iter().map(|(name, _)| name.clone()).collect();
    let mut certificate_refs = Refs::new("certificate", names(&certificate_sections));
    let mut pool_refs = Refs::new("pool", names(&pool_sections));
    let log_refs = Refs::new("access_log", names(&log_sections));
    let access_logs = http::access_log::access_logs(log_sections, p, files);
    let authorizer_refs = Refs::new("authorizer", names(&authorizer_sections));
    let certificates: Vec<Option<Certificate>> = certificate_sections
        .into_iter()
        .map(|(name, section)| certificate::certificate(&name, section, p, host, files))
        .collect();
    let mut known = tls::upstream::Certificates { refs: &mut certificate_refs, parsed: &certificates };
    let pools: Vec<pool::Parsed> = pool_sections
        .into_iter()
        .map(|(name, section)| pool::pool(&name, section, p, host, files, &mut known))
        .collect();
    let mut asked = http::authorizer::Around { pools: &mut pool_refs, files: &mut *files, certificates: &mut known };
    let authorizers = http::authorizer::authorizers(authorizer_sections, p, &mut asked);
    let mut around = service::Around {
        datapath: edge.datapath,
        host,
        files,
        certificates: certificate_refs,
        parsed: &certificates,
        policies: tls::policy::Policies::new(policy_sections, p),
        pools: pool_refs,
        authorizers: authorizer_refs,
        access_logs: log_refs,
    };
    let (mut terminated, mut forwarded, mut limits) = (Vec::new(), Vec::new(), BTreeMap::new());
    for (name, section) in service_sections {
        let parsed = service::service(&name, section, p, &mut around);
        limits.extend(parsed.shield.limits.map(|limits| (parsed.name.clone(), limits)));
        if !parsed.shield.prefixes.is_empty() {
            prefixes.insert(Some(parsed.name), parsed.shield.prefixes);
        }
        match parsed.kind {
            Some(service::Kind::Terminated(service)) => terminated.push(*service),
            Some(service::Kind::Forwarded(service)) => forwarded.push(service),
            None => {}
        }
    }
    around.policies.finish(p);
    around.certificates.finish(p);
    around.pools.finish(p);
    around.authorizers.finish(p);
    around.access_logs.finish(p);
    let claims = overlap::claims(&terminated, &forwarded);
    overlap::addresses(&claims, p);
    check::pools(&pools, &terminated, &forwarded, p);

    let mut pools: Vec<Pool> = pools.into_iter().map(|parsed| parsed.pool).collect();
    let authorizers = authorizers.into_iter().collect::<Option<Vec<_>>>()?;
    let authorizers = authorizers.into_iter().map(|parsed| placed(parsed, &mut pools)).collect();
    let config = Config {
        edge,
        admin,
        dns,
        tls,
        // A certificate that could not be read is a problem already; indices hold only when all are there.
        certificates: certificates.into_iter().collect::<Option<_>>()?,
        services: terminated.into_iter().map(|parsed| parsed.service).collect(),
        forwards: forwarded.iter().map(|parsed| parsed.forward.clone()).collect(),
        limits,
        prefixes: Arc::new(prefixes),
        pools,
        authorizers,
        access_logs,
        origin: Origin { path: PathBuf::new(), text: "".into() },
        files: Vec::new(),
        contents: FileContents::default(),
    };
    check::whole(&config, &claims, p);
    forwarding::check(&config, &forwarded, p);
    Some(config)
}

/// An authorizer whose own pool, if it has one, is among the others.
fn placed(parsed: http::authorizer::Parsed, pools: &mut Vec<Pool>) -> tls_worker::api::Authorizer {
    let mut authorizer = parsed.authorizer;
    if let Some(own) = parsed.own_pool {
        authorizer.pool = pools.len();
        pools.push(own);
    }
    authorizer
}

fn syntax(error: toml_span::Error) -> Problem {
    use toml_span::ErrorKind;
    let first = match &error.kind {
        ErrorKind::DuplicateTable { first, .. }
        | ErrorKind::DuplicateKey { first, .. }
        | ErrorKind::DottedKeyInvalidType { first } => Some(*first),
        _ => None,
    };
    let help = match &error.kind {
        ErrorKind::DuplicateTable { .. } => "write one table with the keys of both",
        ErrorKind::DuplicateKey { .. } => "remove one of the two",
        ErrorKind::UnquotedString => "write texts in quotes",
        ErrorKind::UnterminatedString => "close the quote",
        _ => "this is not TOML from here on; mend it and check again, other problems show then",
    };
    let problem = Problem::error(error.span.into(), error.to_string()).help(help);
    match first {
        Some(first) => problem.also(first.into(), "first here"),
        None => problem,
    }
}

fn summary(problems: &Problems) -> String {
    let errors: Vec<_> = problems.views().into_iter().filter(|v| v.severity == Severity::Error).collect();
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
