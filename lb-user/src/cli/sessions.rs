//! `bailey session`: who a pool's persistence knows.

use super::args_session::SessionVerb;
use super::verbs::Out;
use crate::admin::api::*;
use crate::admin::client::{Client, ClientError};
use std::fmt::Write as _;

pub(super) async fn session(verb: SessionVerb, client: &Client, out: &Out) -> Result<(), ClientError> {
    match verb {
        SessionVerb::List { pool, limit, after } => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("limit", &limit.to_string());
            if let Some(key) = &after {
                query.append_pair("after", key);
            }
            let list: SessionList = client.get(&format!("/v1/sessions/{pool}?{}", query.finish())).await?;
            out.show(&list, table);
        }
        SessionVerb::Clear { pool, key, backend, all: _ } => {
            let which = match (key, backend) {
                (Some(key), _) => ClearSessions::Key(key),
                (None, Some(backend)) => ClearSessions::Backend(backend),
                (None, None) => ClearSessions::All,
            };
            let done: SessionsCleared = client.post(&format!("/v1/sessions/{pool}"), &which).await?;
            out.show(&done, |done| format!("{pool}: {} cleared\n", done.cleared));
        }
    }
    Ok(())
}

fn table(list: &SessionList) -> String {
    let width = list.sessions.iter().map(|row| row.key.len()).max().unwrap_or(0).max(3);
    let mut text = format!("{:width$}  {:>6}  BACKEND\n", "KEY", "IDLE");
    for row in &list.sessions {
        let _ = writeln!(text, "{:width$}  {:>5}s  {}", row.key, row.idle_seconds, row.backend);
    }
    let _ = match list.sessions.last() {
        Some(last) if list.sessions.len() < list.total => {
            writeln!(text, "{} of {}; go on with --after '{}'", list.sessions.len(), list.total, last.key)
        }
        _ => writeln!(text, "{} in all", list.total),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_list_says_how_to_go_on() {
        let row = |key: &str| SessionRow { key: key.into(), backend: ([10, 0, 0, 1], 80).into(), idle_seconds: 7 };
        let mut list = SessionList { pool: "p".into(), total: 3, sessions: vec![row("192.0.2.7"), row("b")] };
        assert_eq!(
            table(&list),
            "KEY          IDLE  BACKEND\n\
             192.0.2.7      7s  10.0.0.1:80\n\
             b              7s  10.0.0.1:80\n\
             2 of 3; go on with --after 'b'\n"
        );
        list.total = 2;
        assert!(table(&list).ends_with("2 in all\n"));
    }
}
