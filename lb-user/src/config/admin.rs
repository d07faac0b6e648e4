//! `[admin]`.

use super::host::Host;
use super::model::Admin;
use super::problem::{Problem, Problems};
use super::scalar::{self, Wrong};
use super::section::{At, Section};
use crate::admin::{DEFAULT_SOCKET, SocketAccess};
use std::path::{Path, PathBuf};

pub(super) fn admin(mut section: Section<'_>, p: &mut Problems, host: &Host, dir: &Path) -> Admin {
    let socket = section.string(p, "socket").map(|at| place(&at, p, dir));
    let access = access(&mut section, p, host, ["group", "mode"], 0o660);
    let read_only = section.string(p, "read_only_socket").map(|at| (place(&at, p, dir), at.span));
    // Who may change may look.
    let mut readers = self::access(&mut section, p, host, ["read_only_group", "read_only_mode"], 0o660);
    readers.group = readers.group.or_else(|| access.group.clone());
    if access.mode & 0o006 != 0 {
        p.push(
            Problem::warning(section.span_of("mode"), "every user of this host may change the edge")
                .help("leave others out, such as mode = \"0660\"; for looking there is `read_only_socket`"),
        );
    }
    let socket = socket.unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET));
    match &read_only {
        None => {
            for key in ["read_only_group", "read_only_mode"].into_iter().filter(|key| section.has(key)) {
                p.push(
                    Problem::error(section.span_of(key), format!("`{key}` belongs to `read_only_socket`"))
                        .help(format!("name a socket, or remove `{key}`")),
                );
            }
        }
        Some((path, span)) if *path == socket => {
            p.push(Problem::error(span.clone(), "this is the admin socket").help("name another path"));
        }
        Some(_) => {}
    }
    let max_connections = section.integer(p, "max_connections", 4..=1_024).unwrap_or(32);
    let metrics = section.parsed(p, "metrics", scalar::socket_address).map(|at| at.value);
    section.finish(p);
    let read_only = read_only.map(|(path, _)| (path, readers));
    Admin { socket, access, read_only, max_connections, metrics }
}

fn place(at: &At<&str>, p: &mut Problems, dir: &Path) -> PathBuf {
    let path = dir.join(at.value);
    // sun_path holds 108 bytes with the zero at its end (unix(7)).
    if path.as_os_str().len() > 107 {
        p.push(
            Problem::error(at.span.clone(), "a Unix socket's path holds at most 107 bytes")
                .help("write a shorter path"),
        );
    }
    path
}

fn access(
    section: &mut Section<'_>,
    p: &mut Problems,
    host: &Host,
    [group, mode]: [&'static str; 2],
    default: u32,
) -> SocketAccess {
    let group = section.string(p, group).map(|at| {
        if !(host.group_exists)(at.value) {
            p.push(
                Problem::error(at.span, format!("this host has no group {:?}", at.value))
                    .help("create it (groupadd --system), or leave the key out"),
            );
        }
        at.value.to_owned()
    });
    let mode = section.parsed(p, mode, bits).map_or(default, |at| at.value);
    SocketAccess { group, mode }
}

fn bits(text: &str) -> Result<u32, Wrong> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && mode & 0o600 == 0o600 => Ok(mode),
        Ok(_) | Err(_) => Err(Wrong::new(
            format!("{text:?} is no mode of a socket"),
            "write octal digits that leave the owner read and write, such as \"0660\"",
        )),
    }
}
