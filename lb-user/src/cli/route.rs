//! `bailey route test`: which route of a config takes a request, asked of the file and of nobody else.

use super::args::RouteTest;
use super::say;
use crate::config::{Config, LoadError, load};
use serde_json::json;
use std::process::ExitCode;
use tls_worker::api::routes::{Sample, find};
use tls_worker::api::{Mode, Route, Service};

pub(super) fn test(test: &RouteTest, as_json: bool) -> ExitCode {
    let found = match load(&test.config) {
        Ok(loaded) => taken(test, &loaded.config),
        Err(LoadError::Invalid(problems)) => Err(format!("the config cannot be used:\n{problems}")),
        Err(error) => Err(error.to_string()),
    };
    match found {
        Ok(Some((route, leads))) => {
            if as_json {
                say::print_json(&json!({ "route": route, "leads_to": leads }), true);
            } else {
                say::print(&format!("route {route}: {leads}\n"));
            }
            ExitCode::SUCCESS
        }
        Ok(None) => {
            say::print(if as_json { "{\"route\":null}\n" } else { "no route: 404\n" });
            ExitCode::FAILURE
        }
        Err(error) => {
            say::fail(error, None, as_json);
            ExitCode::from(2)
        }
    }
}

/// Name of the route, and where it leads.
fn taken(test: &RouteTest, config: &Config) -> Result<Option<(String, String)>, String> {
    let of_http = |service: &&Service| matches!(service.mode, Mode::Http | Mode::Https);
    let service = config.services.iter().filter(of_http).find(|service| service.name == test.service);
    let service = service.ok_or_else(|| {
        let names: Vec<_> = config.services.iter().filter(of_http).map(|service| service.name.as_str()).collect();
        format!("there is no service {:?} of mode http or https; there are: {}", test.service, names.join(", "))
    })?;
    let host = test.url.host().ok_or("write the whole address: https://www.example.com/path")?;
    let sample = Sample {
        host: host.to_owned(),
        method: test.method.clone(),
        path: test.url.path().to_owned(),
        query: test.url.query().map(str::to_owned),
        headers: test.headers.clone(),
        client: test.client,
        sni: (service.mode == Mode::Https).then(|| test.sni.clone().unwrap_or_else(|| host.to_owned())),
    };
    let found = find(&service.routes, &sample)?.map(|place| &service.routes[place]);
    Ok(found.map(|route: &Route| (route.name.clone(), config.leads_to(route))))
}
