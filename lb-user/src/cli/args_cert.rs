//! What can be typed after `bailey cert` that is about files alone.

use crate::cert::convert::Form;
use crate::cert::make::{KeyType, Names};
use crate::config::dns_name;
use clap::{Args, Subcommand};
use std::net::IpAddr;
use std::path::PathBuf;

/// Verbs that ask no daemon.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum CertFileVerb {
    /// Make a private key (PEM, PKCS#8, readable by its owner alone)
    NewKey {
        /// Kind of key
        #[arg(long = "type", value_name = "TYPE", default_value = "ecdsa-p256")]
        kind: KeyType,
        #[command(flatten)]
        to: Output,
    },
    /// Make a certification request (PKCS#10) to send to an authority
    Request {
        /// Private key, PEM or DER
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        #[command(flatten)]
        names: NameArgs,
        /// Ask for a certificate that clients take with a staple alone (RFC 7633)
        #[arg(long)]
        must_staple: bool,
        #[command(flatten)]
        to: Output,
    },
    /// Make a certificate that its own key signs, for tests and for an authority of your own
    SelfSign {
        /// Private key, PEM or DER
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        #[command(flatten)]
        names: NameArgs,
        /// Validity from now
        #[arg(long, default_value = "365", value_parser = clap::value_parser!(u32).range(1..))]
        days: u32,
        /// An authority, that signs others and serves nobody
        #[arg(long)]
        ca: bool,
        #[command(flatten)]
        to: Output,
    },
    /// Show what files hold: certificates, keys, requests, revocation lists, archives
    Inspect {
        /// PEM, DER or PKCS#12
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Password of PKCS#12 archives, in the first line of this file
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Write PEM, DER or PKCS#12 as another of them; chains are put in order
    Convert {
        /// PEM, DER or PKCS#12
        #[arg(value_name = "IN")]
        input: PathBuf,
        /// What to write
        #[arg(long = "to", value_name = "FORM")]
        form: Form,
        /// A private key to put in
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Certificates to put in
        #[arg(long, value_name = "FILE")]
        chain: Option<PathBuf>,
        /// Password of PKCS#12, read or written, in the first line of this file
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        #[command(flatten)]
        to: Output,
    },
}

/// Where to write.
#[derive(Debug, Clone, Args)]
pub(super) struct Output {
    /// File to write
    #[arg(short, long = "out", value_name = "OUT")]
    pub(super) out: PathBuf,
    /// Replace it if it is there
    #[arg(long)]
    pub(super) force: bool,
}

/// Whom it is for.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = true)]
pub(super) struct NameArgs {
    /// Distinguished name, such as "CN=www.example.com,O=Example"; without it CN is the first of the names below
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// DNS name, may be given many times
    #[arg(long, value_name = "NAME", value_parser = dns_name)]
    dns: Vec<String>,
    /// IP address, may be given many times
    #[arg(long, value_name = "ADDRESS")]
    ip: Vec<IpAddr>,
}

impl From<NameArgs> for Names {
    fn from(NameArgs { subject, dns, ip }: NameArgs) -> Self {
        Names { subject, dns, ip }
    }
}
