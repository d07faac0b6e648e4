//! What reads bytes is fuzzed here: a short random run with each `cargo test` from the seeds in
//! `__fuzz__/TARGET/corpus`, and as long as one likes by `cargo bolero test -p lb-tests --test fuzz TARGET`.

use std::io::Write as _;

use tls_worker::api::{Command, Event, wire};

/// The control socket: whatever bytes arrive, the receiver ends with a message or an error, never a panic, and
/// never takes more memory than what arrived.
#[test]
fn control_socket_frames() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    bolero::check!().for_each(|input: &[u8]| {
        runtime.block_on(async {
            let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
            far.set_nonblocking(true).unwrap();
            // What does not fit the socket's buffer is cut: the end of the stream is a case of its own.
            let _ = (&near).write(input);
            drop(near);
            let (_, mut receiver) = wire::split(tokio::net::UnixStream::from_std(far).unwrap());
            while receiver.receive::<Command>().await.is_ok() {}
        });
    });
}

/// The text of a message, as either side may send it.
#[test]
fn control_messages() {
    bolero::check!().for_each(|input: &[u8]| {
        if let Ok(command) = serde_json::from_slice::<Command>(input) {
            let text = serde_json::to_vec(&command).unwrap();
            serde_json::from_slice::<Command>(&text).unwrap();
        }
        let _ = serde_json::from_slice::<Event>(input);
    });
}

/// A config file: any text ends with a model or with problems that can be shown, never a panic.
#[test]
fn config_text() {
    let host = lb_user::config::Host::this();
    let path = std::path::Path::new("fuzz.toml");
    bolero::check!().for_each(|input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        if let Err(lb_user::config::LoadError::Invalid(problems)) = lb_user::config::parse(&text, path, &host) {
            assert!(problems.has_errors());
            assert!(!problems.render(false).is_empty());
        }
    });
}

/// A file of denied prefixes: any bytes end with prefixes that can be written and read again, and with a bounded list
/// of what is wrong.
#[test]
fn prefix_file() {
    bolero::check!().for_each(|input: &[u8]| {
        let (found, wrong) = lb_user::config::prefix_file(input);
        assert!(found.len() <= input.split(|byte| *byte == b'\n').count() && wrong.len() <= 11);
        let text: String = found.iter().map(|network| format!("{network}\n")).collect();
        assert_eq!(lb_user::config::prefix_file(text.as_bytes()), (found, Vec::new()));
    });
}
