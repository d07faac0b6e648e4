//! What these tests have in common: nginx with two servers that say what they were asked for, and curl.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use lb_tests::edge::Edge;
use lb_tests::here::{Here, free_address};
use lb_tests::peers;
use lb_tests::process::Process;
use lb_tests::programs::{Said, curl};

/// Services `web` (https) and `plain` (http), pools `one` and `two`.
pub(crate) struct Site {
    pub(crate) here: Here,
    pub(crate) edge: Edge<'static>,
    pub(crate) web: SocketAddr,
    pub(crate) plain: SocketAddr,
    _nginx: Process,
}

impl Site {
    /// `web`: keys of that service. `more` comes at the end of the config; `prepare` makes files before.
    pub(crate) fn new(web: &str, plain: &str, more: &str, prepare: impl FnOnce(&Here) -> Result<()>) -> Result<Self> {
        let here = Here::new()?;
        prepare(&here)?;
        let [one, two, at, clear] = [free_address()?, free_address()?, free_address()?, free_address()?];
        let nginx = nginx(here.folder(), one, two)?;
        let config = here.head("")
            + &format!(
                "[pool.one]\nbackends = [\"{one}\"]\n[pool.two]\nbackends = [\"{two}\"]\n\
                 [service.plain]\naddresses = [\"{clear}\"]\nmode = \"http\"\n{plain}\n\
                 [service.web]\naddresses = [\"{at}\"]\nmode = \"https\"\ncertificates = [\"lab\"]\n{web}\n{more}"
            );
        let edge = here.start(&config)?;
        Ok(Self { here, edge, web: at, plain: clear, _nginx: nginx })
    }

    /// curl of a path of `www.bailey.test` at `web`, with its headers in what it said.
    pub(crate) fn get(&self, path: &str, arguments: &[&str]) -> Result<Said> {
        let url = format!("https://www.bailey.test:{}{path}", self.web.port());
        curl(self.web, &["www.bailey.test", "other.bailey.test"], &self.here.ca(), &[arguments, &[&url]].concat())
    }
}

/// Both servers say their name, target, host and some headers; below `/v1/go` they send clients elsewhere.
fn nginx(folder: &Path, one: SocketAddr, two: SocketAddr) -> Result<Process> {
    let server = |name: &str, listen: SocketAddr| {
        format!(
            "server {{ listen {listen}; absolute_redirect on;\n\
             location / {{ return 200 \"{name} $request_method $request_uri host=$http_host client=$http_x_client \
             cert=$http_x_cert forged=$http_x_forged\\n\"; }}\n\
             location /v1/go {{ add_header Set-Cookie \"id=1; Path=/v1; HttpOnly; Priority=High\" always; \
             return 302 http://$host/v1/there; }}\n\
             location = /v1/dir {{ return 301 /v1/dir/; }} }}\n"
        )
    };
    let servers = server("one", one) + &server("two", two);
    peers::nginx(folder, &servers, two)
}
