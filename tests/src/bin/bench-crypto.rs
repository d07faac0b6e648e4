//! What a handshake costs the side that serves, by who does which part of the cryptography: ring, aws-lc-rs, or each
//! what it is better at. Two ends of TLS in one process, no socket; the time within the server's end is counted.
//!
//! `tls-worker/src/tls/provider` is decided by this. `--json` prints the same for programs.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use lb_tests::pki::provider;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs, ring};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::{PrivateKeyDer, ServerName};

const ROUNDS: usize = 9;
const HANDSHAKES: u32 = 200;
/// Bytes that a server sends in one bulk measurement.
const BULK: usize = 16 << 20;

struct Case {
    name: &'static str,
    key: &'static str,
    server: CryptoProvider,
    group: &'static dyn SupportedKxGroup,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-crypto: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let (mut json, mut rounds) = (false, ROUNDS);
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--json" => json = true,
            "--quick" => rounds = 2,
            other => bail!("unknown argument {other:?}; there are --json and --quick"),
        }
    }
    let keys = [("P-256", KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?), ("RSA-2048", rsa()?)];
    let mut figures: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    // All cases in each round, so that what disturbs the machine disturbs all alike. The median counts.
    for _ in 0..rounds {
        for case in cases() {
            let (_, key) = keys.iter().find(|(name, _)| *name == case.key).context("a key of that name")?;
            let ends = Ends::new(&case, key)?;
            figures.entry((case.key, case.name)).or_default().push(ends.handshakes()?);
        }
        for (name, server) in [("ring", ring::default_provider()), ("aws-lc-rs", aws_lc_rs::default_provider())] {
            let case = Case { name, key: "P-256", server, group: ring::kx_group::X25519 };
            let ends = Ends::new(&case, &keys[0].1)?;
            figures.entry(("1 MiB sent, AES-128-GCM", name)).or_default().push(ends.bulk()?);
        }
    }
    for values in figures.values_mut() {
        values.sort_by(f64::total_cmp);
    }
    let median = |values: &[f64]| values[values.len() / 2];
    if json {
        let rows: Vec<_> = figures
            .iter()
            .map(|((work, by), v)| serde_json::json!({ "work": work, "by": by, "us": median(v), "rounds": v }))
            .collect();
        println!("{}", serde_json::Value::from(rows));
        return Ok(());
    }
    let mut table = comfy_table::Table::new();
    table.set_header(["work of the server's end", "by", "us", "lowest", "highest"]);
    for ((work, by), v) in &figures {
        let cell = |value: f64| format!("{value:.1}");
        table.add_row([work.to_string(), by.to_string(), cell(median(v)), cell(v[0]), cell(v[v.len() - 1])]);
    }
    println!("{table}\nFull TLS 1.3 handshake, {rounds} rounds of {HANDSHAKES}; no socket, no request.");
    Ok(())
}

fn rsa() -> Result<KeyPair> {
    Ok(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?)
}

fn cases() -> Vec<Case> {
    let mixed = |key: &'static str| CryptoProvider {
        key_provider: if key == "RSA-2048" {
            aws_lc_rs::default_provider().key_provider
        } else {
            ring::default_provider().key_provider
        },
        kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519],
        ..ring::default_provider()
    };
    let mut cases = Vec::new();
    for key in ["P-256", "RSA-2048"] {
        let aws = || aws_lc_rs::default_provider();
        cases.push(Case { name: "ring, X25519", key, server: ring::default_provider(), group: ring::kx_group::X25519 });
        cases.push(Case { name: "aws-lc-rs, X25519", key, server: aws(), group: ring::kx_group::X25519 });
        cases.push(Case { name: "as Bailey, X25519", key, server: mixed(key), group: ring::kx_group::X25519 });
        let post_quantum = aws_lc_rs::kx_group::X25519MLKEM768;
        cases.push(Case { name: "aws-lc-rs, X25519MLKEM768", key, server: aws(), group: post_quantum });
        cases.push(Case { name: "as Bailey, X25519MLKEM768", key, server: mixed(key), group: post_quantum });
    }
    cases
}

/// Both ends' configurations.
struct Ends {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Ends {
    fn new(case: &Case, key: &KeyPair) -> Result<Self> {
        let certificate = CertificateParams::new(vec!["bench.test".into()])?.self_signed(key)?;
        let der = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let mut crypto = case.server.clone();
        crypto.cipher_suites.retain(|suite| suite.suite() == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        if !crypto.kx_groups.iter().any(|group| group.name() == case.group.name()) {
            crypto.kx_groups.push(case.group);
        }
        let server = ServerConfig::builder_with_provider(Arc::new(crypto))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], der)?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone())?;
        let crypto = CryptoProvider { kx_groups: vec![case.group], ..CryptoProvider::clone(&provider()) };
        let mut client = ClientConfig::builder_with_provider(Arc::new(crypto))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Ends { server: Arc::new(server), client: Arc::new(client) })
    }

    fn connect(&self) -> Result<(ServerConnection, ClientConnection, Duration)> {
        let mut client = ClientConnection::new(self.client.clone(), ServerName::try_from("bench.test")?)?;
        let began = Instant::now();
        let mut server = ServerConnection::new(self.server.clone())?;
        let mut within = began.elapsed();
        // Two flights and a half; what does not end by then is broken.
        for _ in 0..8 {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire)?;
            }
            let began = Instant::now();
            let mut from = wire.as_slice();
            while !from.is_empty() {
                server.read_tls(&mut from)?;
                server.process_new_packets()?;
            }
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire)?;
            }
            within += began.elapsed();
            feed(&mut client, &wire)?;
            if !client.is_handshaking() && !server.is_handshaking() {
                return Ok((server, client, within));
            }
        }
        bail!("the handshake does not end")
    }

    /// Microseconds of one.
    fn handshakes(&self) -> Result<f64> {
        let mut within = Duration::ZERO;
        for _ in 0..HANDSHAKES {
            let (server, _, took) = self.connect()?;
            ensure!(server.handshake_kind() == Some(rustls::HandshakeKind::Full), "not a full handshake");
            within += took;
        }
        Ok(within.as_secs_f64() * 1e6 / f64::from(HANDSHAKES))
    }

    /// Microseconds that sealing 1 MiB takes.
    fn bulk(&self) -> Result<f64> {
        use std::io::Write as _;
        let (mut server, _client, _) = self.connect()?;
        let part = vec![7; 64 << 10];
        let mut wire = Vec::with_capacity(1 << 20);
        let began = Instant::now();
        for _ in 0..BULK / part.len() {
            server.writer().write_all(&part)?;
            wire.clear();
            while server.wants_write() {
                server.write_tls(&mut wire)?;
            }
        }
        Ok(began.elapsed().as_secs_f64() * 1e6 / (BULK >> 20) as f64)
    }
}

fn feed(client: &mut ClientConnection, mut wire: &[u8]) -> Result<()> {
    while !wire.is_empty() {
        client.read_tls(&mut wire)?;
        client.process_new_packets()?;
    }
    Ok(())
}
