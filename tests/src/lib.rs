//! The lab: network namespaces with real clients, a real edge and real backends, for tests, demo and bench.
//!
//! | module | what it gives |
//! | --- | --- |
//! | [`need`] | what this machine lacks for a lab, in words |
//! | [`harness`] | tests that are skipped with a reason, and that show the processes' logs when they fail |
//! | [`netns`] | a namespace, a cable between two, work done inside one |
//! | [`lab`] | client, edge and backends with addresses and routes |
//! | [`forwarding`] | what a lab of forwarded services has besides |
//! | [`lines`] | servers that say who they are, and connections that ask again and again |
//! | [`process`] | a process that is ended and whose output is kept |
//! | [`here`] | an edge on loopback, for what happens above TCP |
//! | [`room`] | a machine inside this one, with a systemd of its own |
//! | [`edge`] | `bailey run` and its command line |
//! | [`backend`] | a server that records what it is asked |
//! | [`client`] | HTTP/1.1, HTTP/2 and WebSocket over TLS |
//! | [`peers`] | nginx, haproxy as servers |
//! | [`programs`] | openssl, curl, GnuTLS as clients |
//! | [`pki`] | authorities, their certificates and revocation lists |
//! | [`ocsp`] | an authority's OCSP responder |
//! | [`metrics`] | Prometheus text, read |
//! | [`left`] | what an edge has put into the kernel |
//! | [`flood`] | traffic in millions of frames, and what an XDP program cost meanwhile |
//! | [`foreign`] | somebody else's XDP program |
//! | [`packet`] | frames byte by byte |
//! | [`privilege`] | what a packet test needs |
//! | [`random`] | numbers that a seed repeats |
//! | [`docs`] | the reference pages as data |
//! | [`wait`] | conditions with a deadline |

pub mod backend;
pub mod checksum;
pub mod client;
pub mod docs;
pub mod edge;
pub mod flood;
pub mod foreign;
pub mod forwarding;
pub mod harness;
pub mod here;
pub mod lab;
pub mod left;
pub mod lines;
pub mod metrics;
pub mod need;
pub mod netns;
pub mod ocsp;
pub mod packet;
pub mod peers;
pub mod pki;
pub mod privilege;
pub mod process;
pub mod programs;
pub mod random;
pub mod room;
pub mod wait;
