//! Lines through pipes into files and syslog.

use super::*;
use crate::config::{LogTarget, Syslog};
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};
use tls_worker::api::{self, LogFormat, frames};

fn log(name: &str, target: LogTarget) -> AccessLog {
    let format = LogFormat::Common;
    let log = api::AccessLog { name: name.into(), format, sample: 1, errors_always: false, buffer: 1 << 20 };
    AccessLog { log, target }
}

fn file(path: &Path) -> LogTarget {
    LogTarget::File(path.to_owned())
}

/// Wait until it is so.
fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn send(pipe: &mut std::fs::File, log: &str, lines: std::ops::Range<u32>) {
    let mut bytes = Vec::new();
    lines.for_each(|n| frames::write(&mut bytes, log, format!("line {n}").as_bytes()));
    pipe.write_all(&bytes).unwrap();
}

fn numbers(text: &str) -> Vec<u32> {
    text.lines().map(|line| line.strip_prefix("line ").unwrap().parse().unwrap()).collect()
}

#[test]
fn rotation_by_rename_and_signal_loses_and_tears_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    let logs = AccessLogs::default();
    logs.adopt(&[log("a", file(&path)), log("b", file(&dir.path().join("b.log")))]);
    let mut pipes: Vec<_> = logs.pipes(2).unwrap().into_iter().map(std::fs::File::from).collect();
    let lines = |name: &str| numbers(&std::fs::read_to_string(dir.path().join(name)).unwrap_or_default());
    let (mut files, mut next) = (vec!["a.log".to_owned()], 0);
    for round in 0..6 {
        // The file is moved away while lines are being written, with a word or without one.
        let mut second = pipes.pop().unwrap();
        let from = next;
        let writer = std::thread::spawn(move || {
            send(&mut second, "a", from..from + 2_000);
            second
        });
        send(&mut pipes[0], "a", from + 2_000..from + 4_000);
        next += 4_000;
        until("the file is there", || path.exists());
        files.push(format!("a.log.{round}"));
        std::fs::rename(&path, dir.path().join(&files[round + 1])).unwrap();
        if round % 2 == 0 {
            logs.reopen();
        }
        pipes.push(writer.join().unwrap());
        let began = Instant::now();
        while !path.exists() {
            assert!(began.elapsed() < Duration::from_secs(20), "round {round}: no new file");
            send(&mut pipes[0], "a", next..next + 1);
            next += 1;
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    send(&mut pipes[1], "b", 0..9);
    let all = || {
        let mut all: Vec<u32> = files.iter().flat_map(|name| lines(name)).collect();
        all.sort_unstable();
        all
    };
    until("every line", || all().len() >= next as usize && lines("b.log").len() == 9);
    assert_eq!(all(), (0..next).collect::<Vec<_>>());
    assert_eq!(logs.lost(), [("a".to_owned(), 0), ("b".to_owned(), 0)]);
}

#[test]
fn what_cannot_be_written_is_counted_and_half_a_line_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let logs = AccessLogs::default();
    let path = dir.path().join("none/a.log");
    logs.adopt(&[log("a", file(&path))]);
    let mut pipe = std::fs::File::from(logs.pipes(1).unwrap().remove(0));
    send(&mut pipe, "a", 0..3);
    send(&mut pipe, "unknown", 0..3);
    until("they are counted", || logs.lost() == [("a".to_owned(), 3)]);
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    until("it is tried again", || {
        send(&mut pipe.try_clone().unwrap(), "a", 7..8);
        path.exists()
    });
    let mut half = Vec::new();
    frames::write(&mut half, "a", b"line 9");
    pipe.write_all(&half[..8]).unwrap();
    drop(pipe);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(numbers(&text).iter().all(|n| *n == 7), "{text}");
}

#[test]
fn a_reload_keeps_what_stays_and_moves_what_moves() {
    let dir = tempfile::tempdir().unwrap();
    let [one, other] = ["1.log", "2.log"].map(|name| dir.path().join(name));
    let logs = AccessLogs::default();
    logs.adopt(&[log("a", file(&one))]);
    let kept = logs.sink("a").unwrap();
    logs.adopt(&[log("a", file(&one)), log("b", file(&other))]);
    assert!(Arc::ptr_eq(&kept, &logs.sink("a").unwrap()));
    logs.adopt(&[log("a", file(&other))]);
    assert!(!Arc::ptr_eq(&kept, &logs.sink("a").unwrap()) && logs.sink("b").is_none());
}

#[test]
fn syslog_gets_a_datagram_a_line_also_after_it_was_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let target = LogTarget::Syslog(Syslog { socket: path.clone(), facility: 16, tag: "bailey".into() });
    let logs = AccessLogs::default();
    logs.adopt(&[log("a", target)]);
    let mut pipe = std::fs::File::from(logs.pipes(1).unwrap().remove(0));
    for _ in 0..2 {
        let server = UnixDatagram::bind(&path).unwrap();
        server.set_nonblocking(true).unwrap();
        let mut bytes = [0; 200];
        until("a message", || {
            send(&mut pipe.try_clone().unwrap(), "a", 5..6);
            let mut bytes = [0; 200];
            server.recv(&mut bytes).is_ok_and(|n| {
                let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
                text.starts_with("<134>") && text.ends_with(": line 5")
            })
        });
        while server.recv(&mut bytes).is_ok() {}
        drop(server);
        std::fs::remove_file(&path).unwrap();
    }
    send(&mut pipe, "a", 0..1);
    until("it is gone", || logs.lost()[0].1 > 0);
}
