//! What is sent, as a table: raw bytes, and what becomes of them. `¶` stands for CR LF; every other byte is as it is.
//!
//! They come from RFC 9110 and 9112, from the published classes of request smuggling (CL.TE, TE.CL, TE.TE, CL.0, TE.0),
//! and from the ways in which servers are known to differ.

mod fields;
mod framing;
mod served;
mod targets;

/// What becomes of a vector, and of a request `GET /end` that is sent right behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expect {
    /// The backend sees these requests, as method, target and body, and `/end`.
    Served(&'static [&'static str]),
    /// The same without `/end`: the last of them asks for the end of the connection.
    Closed(&'static [&'static str]),
    /// The backend sees these; then comes this code for this reason, and the end of the connection.
    Refused(&'static [&'static str], u16, &'static str),
    /// The backend sees these, and no whole request beside them; the connection ends for this reason.
    Broken(&'static [&'static str], &'static str),
}

/// One row.
pub(crate) type Row = (&'static str, Expect);

/// Every vector.
pub(crate) fn all() -> Vec<(Vec<u8>, Expect)> {
    let tables = [served::ROWS, targets::ROWS, fields::ROWS, framing::ROWS, framing::CHUNKS];
    let rows = tables.into_iter().flatten().map(|(text, expect)| (text.replace('¶', "\r\n").into_bytes(), *expect));
    rows.chain(long()).collect()
}

/// Over a limit of the config in `main.rs`.
fn long() -> Vec<(Vec<u8>, Expect)> {
    let refused = |code, reason| Expect::Refused(&[], code, reason);
    let get = |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nHost: o\r\n{fields}\r\n").into_bytes();
    let longest = format!("/{}", "x".repeat(1023));
    vec![
        (get(&longest, ""), Expect::Served(Box::leak(Box::new([&*format!("GET {longest}").leak()])))),
        (get(&format!("/{}", "x".repeat(1024)), ""), refused(414, "uri_length")),
        (get("/", &"x: y\r\n".repeat(31)), Expect::Served(&["GET /"])),
        (get("/", &"x: y\r\n".repeat(32)), refused(431, "header_count")),
        (get("/", &format!("x: {}\r\n", "y".repeat(3000))), Expect::Served(&["GET /"])),
        (get("/", &format!("x: {}\r\n", "y".repeat(5000))), refused(431, "header_size")),
        (get("/", &format!("{}: y\r\n", "x".repeat(5000))), refused(431, "header_size")),
    ]
}
