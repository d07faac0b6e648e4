//! `[pool.NAME.tls]`: how backends are met.

use super::super::certificate::{authorities, system_roots};
use super::super::files::Files;
use super::super::model::Certificate;
use super::super::problem::{Problem, Problems};
use super::super::refs::Refs;
use super::super::scalar;
use super::super::section::Section;
use super::words;
use tls_worker::api::tls::upstream_identity;
use tls_worker::api::{Der, Protocol, TlsVersion, UpstreamTls};

/// Most pins: the key in use, the next, and those of a few authorities.
const MAX_PINS: usize = 16;

/// The certificates that a pool may name, and what became of each.
pub(in crate::config) struct Certificates<'a> {
    pub(in crate::config) refs: &'a mut Refs,
    pub(in crate::config) parsed: &'a [Option<Certificate>],
}

pub(in crate::config) fn tls(
    mut section: Section<'_>,
    p: &mut Problems,
    files: &mut Files<'_>,
    certificates: &mut Certificates<'_>,
) -> UpstreamTls {
    let verify = section.boolean(p, "verify").unwrap_or(true);
    let ca_at = section.string(p, "ca");
    let server_name = section.parsed(p, "server_name", scalar::server_name).map(|at| at.value);
    let sni = section.parsed(p, "sni", scalar::server_name).map(|at| at.value);
    let pins = pins(&mut section, p);
    let shown = section.string(p, "certificate");
    let shown = shown.and_then(|at| certificates.refs.resolve(&at, p));
    let shown = shown.and_then(|index| certificates.parsed.get(index)?.as_ref());
    let min_version = section.choice(p, "min_tls", &words::VERSIONS).unwrap_or(TlsVersion::V12);
    let max_version = section.choice(p, "max_tls", &words::VERSIONS).unwrap_or(TlsVersion::V13);
    let alpn = section.parsed_list(p, "alpn", words::alpn).unwrap_or_default();
    if !verify {
        let pinned = if pins.is_empty() { "anyone can stand in for them" } else { "their keys' pins alone hold" };
        p.push(
            Problem::warning(section.span_of("verify"), format!("backends are not verified: {pinned}"))
                .help("set `ca` to the backends' authority, and `verify` to true"),
        );
    }
    let nothing_to_verify = sni.is_some() && server_name.is_none() && verify;
    if nothing_to_verify {
        p.push(
            Problem::error(section.span_of("sni"), "`sni` differs from a `server_name` that is not there")
                .help("write server_name = \"NAME\": what is verified, and sent where `sni` is not set"),
        );
    }
    if min_version > max_version {
        p.push(
            Problem::error(section.span_of("min_tls"), "no version of TLS is left")
                .help("write a `min_tls` that is not above `max_tls`"),
        );
    }
    let roots: Vec<Der> = match &ca_at {
        Some(at) => files.authorities(at, p, authorities).map(|list| list.to_vec()).unwrap_or_default(),
        None if verify && !section.has("ca") => {
            let roots = files.system_roots(system_roots).to_vec();
            if roots.is_empty() {
                p.push(
                    Problem::error(section.span.clone(), "this host has no trusted roots")
                        .help("install ca-certificates, or set `ca` to the backends' authority"),
                );
            }
            roots
        }
        None => Vec::new(),
    };
    let tls = UpstreamTls {
        verify,
        roots,
        server_name,
        sni,
        pins,
        certificate: shown.map(|one| one.certificate.clone()),
        protocol: Protocol { min_version, max_version, ..Protocol::default() },
        alpn: alpn.into_iter().map(|at| at.value).collect(),
    };
    // Without roots or a name, and with versions that cannot be, the problem is told already.
    if min_version <= max_version
        && !nothing_to_verify
        && (!tls.roots.is_empty() || !tls.verify)
        && let Err(error) = upstream_identity(&tls)
    {
        p.push(
            Problem::error(section.span_of("ca"), format!("backends cannot be met with this: {error}"))
                .help("`ca` names a file of authorities' certificates, PEM or DER"),
        );
    }
    section.finish(p);
    tls
}

fn pins(section: &mut Section<'_>, p: &mut Problems) -> Vec<[u8; 32]> {
    let list = section.parsed_list(p, "pins", words::pin).unwrap_or_default();
    if list.len() > MAX_PINS {
        p.push(
            Problem::error(section.span_of("pins"), format!("{} pins are too many", list.len()))
                .help(format!("write at most {MAX_PINS}")),
        );
    }
    list.into_iter().map(|at| at.value).collect()
}
