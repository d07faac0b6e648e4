//! Words of the config that mean something: names, durations, addresses, hosts, paths. Pure; each failure says
//! what to write instead.

use super::problem::Problem;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;
use tls_worker::api::ListenAddress;

/// Why a text does not mean what it should.
#[derive(Debug)]
pub(super) struct Wrong {
    message: String,
    help: String,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }

    pub(super) fn at(self, span: Range<usize>) -> Problem {
        Problem::error(span, self.message).help(self.help)
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.message, self.help)
    }
}

/// Whether a text can name a service, pool or certificate.
pub fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Name of a service, pool, certificate or route.
pub(super) fn name(text: &str) -> Result<String, Wrong> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("{text:?} cannot be a name"),
        "a name is 1 to 63 letters, digits, `-`, `_` and `.`; one with a `.` stands in quotes",
    ))
}

/// `"500ms"`, `"5s"`, `"2m"`, `"1h"`, `"30d"`.
pub(super) fn duration(text: &str, bounds: &RangeInclusive<Duration>) -> Result<Duration, Wrong> {
    const HELP: &str = "write a whole number and a unit: \"500ms\", \"5s\", \"2m\", \"1h\" or \"30d\"";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(Wrong::new(format!("{text:?} is no duration"), HELP)),
    };
    let ms = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms));
    let duration = ms.map(Duration::from_millis).ok_or_else(|| Wrong::new(format!("{text:?} is no duration"), HELP))?;
    if !bounds.contains(&duration) {
        return Err(Wrong::new(
            format!("{text:?} is out of bounds"),
            format!("write a duration from {:?} to {:?}", bounds.start(), bounds.end()),
        ));
    }
    Ok(duration)
}

/// `"16KiB"`, `"1MiB"`, `"65536"`: bytes.
pub(super) fn size(text: &str) -> Result<u32, Wrong> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        _ => None,
    };
    let size = unit.and_then(|unit: u32| number.parse::<u32>().ok()?.checked_mul(unit));
    size.ok_or_else(|| Wrong::new(format!("{text:?} is no size"), "write \"16KiB\", \"1MiB\", or a number of bytes"))
}

/// `IP:PORT` or `[IPv6]:PORT` of a server.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, Wrong> {
    let address = match text.parse::<SocketAddr>() {
        Ok(address) => SocketAddr::new(address.ip().to_canonical(), address.port()),
        Err(_) => return Err(no_address(text)),
    };
    if address.port() == 0 {
        return Err(Wrong::new(format!("{text:?} has port 0"), "write a port from 1 to 65535"));
    }
    Ok(address)
}

/// A time from a second to a year, in the config's words.
pub fn period(text: &str) -> Result<Duration, String> {
    const YEAR: Duration = Duration::from_secs(366 * 86_400);
    duration(text, &(Duration::from_secs(1)..=YEAR)).map_err(|wrong| wrong.to_string())
}

/// A DNS name, `*.` allowed in front, lower case.
pub fn dns_name(text: &str) -> Result<String, String> {
    host_pattern(text).map_err(|wrong| wrong.to_string())
}

/// A backend: an address that can be connected to.
pub fn backend_address(text: &str) -> Result<SocketAddr, String> {
    backend(text).map_err(|wrong| wrong.to_string())
}

/// A backend: an address that can be connected to.
pub(super) fn backend(text: &str) -> Result<SocketAddr, Wrong> {
    let address = socket_address(text)?;
    match one_host(address.ip()) {
        Err(what) => Err(Wrong::new(format!("{text:?} is {what}"), "write the address of one host")),
        Ok(()) if address.ip().is_unspecified() => {
            Err(Wrong::new(format!("{text:?} is the unspecified address"), "write the address of one host"))
        }
        Ok(()) => Ok(address),
    }
}

/// `IP:PORT`, `[IPv6]:PORT` or `IP:*` of a service.
pub(super) fn listen_address(text: &str) -> Result<ListenAddress, Wrong> {
    let listen = match text.strip_suffix(":*") {
        Some(ip) => {
            let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
            let address = bare.parse::<IpAddr>().map_err(|_| no_address(text))?;
            if address.is_ipv6() && bare.len() == ip.len() {
                return Err(no_address(text));
            }
            ListenAddress { address: address.to_canonical(), port: None }
        }
        None => {
            let address = socket_address(text)?;
            ListenAddress { address: address.ip(), port: Some(address.port()) }
        }
    };
    one_host(listen.address)
        .map_err(|what| Wrong::new(format!("{text:?} is {what}"), "write an address that clients can connect to"))?;
    Ok(listen)
}

fn one_host(address: IpAddr) -> Result<(), &'static str> {
    match address {
        a if a.is_multicast() => Err("a multicast address"),
        IpAddr::V4(a) if a.is_broadcast() => Err("the broadcast address"),
        _ => Ok(()),
    }
}

fn no_address(text: &str) -> Wrong {
    let message = format!("{text:?} is no IP address with a port");
    if let Ok(ip) = text.parse::<IpAddr>() {
        let example = SocketAddr::new(ip, 443);
        return Wrong::new(message, format!("the port is missing: write \"{example}\""));
    }
    if let Some((host, port)) = text.rsplit_once(':') {
        let port_is_good = port == "*" || port.parse::<u16>().is_ok();
        if port_is_good && let Ok(ip) = host.parse::<IpAddr>() {
            let bracketed = if ip.is_ipv6() { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
            return Wrong::new(message, format!("write \"{bracketed}\""));
        }
        if port_is_good && host_name(host).is_ok() && host.bytes().any(|b| b.is_ascii_alphabetic()) {
            return Wrong::new(message, format!("names are not looked up here: write the IP address of {host:?}"));
        }
        if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return Wrong::new(message, format!("{port:?} is no port: write a number from 1 to 65535"));
        }
    }
    Wrong::new(message, "write \"192.0.2.10:443\" or \"[2001:db8::10]:443\"")
}

/// Host names that a route takes: `www.example.com`, `*.example.com`.
pub(super) fn host_pattern(text: &str) -> Result<String, Wrong> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    if name.contains(':') {
        return Err(Wrong::new(format!("{text:?} is no host name"), "write the name alone, without a port"));
    }
    host_name(name).map(|_| text.to_ascii_lowercase())
}

/// A host name (RFC 1123, 2.1), lower case.
pub(super) fn host_name(text: &str) -> Result<String, Wrong> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        return Ok(text.to_ascii_lowercase());
    }
    let help = if !text.is_ascii() {
        "write an international name in its ASCII form (xn--...)"
    } else if text.ends_with('.') {
        "leave out the dot at the end"
    } else if text.contains('*') {
        "`*` stands only for the whole first label: \"*.example.com\""
    } else {
        "write labels of letters, digits and `-`, with dots between: \"www.example.com\""
    };
    Err(Wrong::new(format!("{text:?} is no host name"), help))
}

/// SNI and name that is verified: a host name that is no IP address.
pub(super) fn server_name(text: &str) -> Result<String, Wrong> {
    if text.parse::<IpAddr>().is_ok() {
        return Err(Wrong::new(
            format!("{text:?} is an address"),
            "leave it out: then the backend's own address is verified, and no SNI is sent",
        ));
    }
    host_name(text)
}

/// A path prefix by whole elements, without the slash at its end. `/` is none: every path.
pub(super) fn path_prefix(text: &str) -> Result<Option<String>, Wrong> {
    request_path(text)?;
    if text.contains('?') {
        return Err(Wrong::new(format!("{text:?} holds a query"), "write the path alone"));
    }
    let path = text.trim_end_matches('/');
    if path.split('/').skip(1).any(|element| matches!(element, "" | "." | "..")) {
        return Err(Wrong::new(
            format!("{text:?} has an empty, `.` or `..` element"),
            "requests are matched after such elements are resolved: write the resolved path",
        ));
    }
    Ok((!path.is_empty()).then(|| path.to_owned()))
}

/// A whole path; the slash at its end counts.
pub(super) fn path_exact(text: &str) -> Result<String, Wrong> {
    path_prefix(text).map(|_| text.to_owned())
}

/// What stands in a request line: a path, perhaps with a query.
pub(super) fn request_path(text: &str) -> Result<String, Wrong> {
    if !text.starts_with('/') {
        return Err(Wrong::new(format!("{text:?} is no path"), format!("begin it with a slash: \"/{text}\"")));
    }
    if text.contains('#') || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Wrong::new(
            format!("{text:?} holds a character that no request line carries"),
            "write it percent-encoded, without a fragment",
        ));
    }
    Ok(text.to_owned())
}

/// Name of a response header (RFC 9110, 5.6.2), lower case.
pub(super) fn header_name(text: &str) -> Result<String, Wrong> {
    hyper::header::HeaderName::from_bytes(text.as_bytes())
        .map(|name| name.as_str().to_owned())
        .map_err(|_| Wrong::new(format!("{text:?} is no header name"), "write a token such as \"x-served-by\""))
}

/// Value of a Host header.
pub(super) fn host_header(text: &str) -> Result<String, Wrong> {
    let authority = text.parse::<hyper::http::uri::Authority>();
    match authority {
        Ok(authority) if !authority.as_str().contains('@') => Ok(text.to_owned()),
        _ => Err(Wrong::new(format!("{text:?} is no host"), "write \"www.example.com\" or \"www.example.com:8080\"")),
    }
}

/// `"200"` or `"200-299"`.
pub(super) fn code_range(text: &str) -> Result<(u16, u16), Wrong> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    match (low.parse::<u16>(), high.parse::<u16>()) {
        (Ok(low), Ok(high)) if (100..=599).contains(&low) && (low..=599).contains(&high) => Ok((low, high)),
        _ => Err(Wrong::new(format!("{text:?} is no status code"), "write 200 or \"200-299\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANY: RangeInclusive<Duration> = Duration::ZERO..=Duration::MAX;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("500ms", &ANY).unwrap(), Duration::from_millis(500));
        assert_eq!(duration("2m", &ANY).unwrap(), Duration::from_secs(120));
        for bad in ["", "5", "s", "-1s", "1.5s", "5 s", "99999999999999999999h", "18446744073709551615h", "5S"] {
            assert!(duration(bad, &ANY).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_say_what_to_write_instead() {
        let help = |text: &str| listen_address(text).unwrap_err().help;
        assert!(help("10.0.0.1").contains("\"10.0.0.1:443\""));
        assert!(help("2001:db8::1").contains("\"[2001:db8::1]:443\""));
        assert!(help("2001:db8::1:*").contains("\"[2001:db8::1]:*\""));
        assert!(help("www.example.com:443").contains("not looked up"));
        assert!(help("10.0.0.1:http").contains("no port"));
        assert_eq!(listen_address("[::ffff:10.0.0.1]:80").unwrap().address, IpAddr::from([10, 0, 0, 1]));
        assert_eq!(listen_address("[2001:db8::1]:*").unwrap().port, None);
        for bad in ["10.0.0.1:0", "224.0.0.1:80", "255.255.255.255:80", "10.0.0.256:80", "[10.0.0.1]:80"] {
            assert!(listen_address(bad).is_err(), "{bad}");
        }
        assert!(backend("0.0.0.0:80").is_err());
    }

    #[test]
    fn paths_and_hosts_are_normal() {
        assert_eq!(path_prefix("/").unwrap(), None);
        assert_eq!(path_prefix("/api/").unwrap().as_deref(), Some("/api"));
        for bad in ["", "api", "/a//b", "/a/../b", "/a b", "/a?x=1", "/a#b", "/ä"] {
            assert!(path_prefix(bad).is_err(), "{bad}");
        }
        assert_eq!(host_pattern("*.Example.COM").unwrap(), "*.example.com");
        for bad in ["", "*", "a.*.b", "a..b", "-a.b", "a.b:80", "exämple.com", "a b", "example.com."] {
            assert!(host_pattern(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(["16KiB", "1MiB", "7", "7B"].map(|text| size(text).unwrap()), [16_384, 1_048_576, 7, 7]);
        for bad in ["", "KiB", "1KB", "-1", "1.5KiB", "5000MiB", "1 KiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "\\PC{0,40}") {
            let _ = (duration(&text, &ANY), listen_address(&text), backend(&text), host_pattern(&text));
            let _ = (path_prefix(&text), header_name(&text), host_header(&text), code_range(&text), name(&text));
            let _ = size(&text);
        }

        #[test]
        fn what_is_written_is_read(ip: IpAddr, port in 1u16..) {
            let ip = ip.to_canonical();
            if let Ok(listen) = listen_address(&SocketAddr::new(ip, port).to_string()) {
                prop_assert_eq!(listen, ListenAddress { address: ip, port: Some(port) });
            }
        }
    }
}
