//! Bailey's control plane: it owns BPF, listeners, config and agents, and parses no byte that a client sent.
//!
//! | room | what it does |
//! | --- | --- |
//! | [`cert`] | certificates and keys as files: read, ordered, made, shown |
//! | [`config`] | text to checked model, every problem at once |
//! | [`reconcile`] | the one task that decides; the pure plan |
//! | [`datapath`] | how connections come in: kernel or sockets |
//! | [`supervisor`] | keeps worker processes alive over standing listeners, adopts those that were left |
//! | [`upgrade`] | one control plane takes the place of another |
//! | [`health`] | checks of backends |
//! | [`import`] | configs of other products, as one of ours |
//! | [`files`] | looks at files of TLS, and has them read again |
//! | [`ocsp`] | what issuers' responders say: staples, clients' certificates |
//! | [`admin`] | the Unix socket: server, client, JSON |
//! | [`open_files`] | the limit of open files |
//! | [`privileges`] | what is kept of root, and the thread that starts processes of other users |
//! | [`metrics`] | Prometheus text |
//! | [`state`] | what survives the process: journal, history, sessions |
//! | [`run`] | order of start and end of the daemon |
//! | [`cli`] | the command line |
#![deny(unsafe_code)]

pub mod access_log;
pub mod admin;
pub mod cert;
pub mod cli;
pub mod config;
pub mod datapath;
pub mod files;
pub mod health;
pub mod import;
pub mod metrics;
pub mod names;
pub mod ocsp;
pub mod open_files;
pub mod privileges;
pub mod reconcile;
pub mod run;
pub mod state;
pub mod supervisor;
pub mod upgrade;
