//! What `bailey pool drain --wait` says and how it ends, before a daemon that answers as it is told.

use super::*;
use crate::admin::{AdminSocket, Room, SocketAccess, serve};
use crate::reconcile::{Done, Event, State, testing};
use tokio::sync::mpsc;

/// A daemon whose backend has so many slots, and gets a packet at each look up to so many.
fn daemon(slots: u32, packets: u64) -> (tempfile::TempDir, Client) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let (events, mut asked) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut looks = 0;
        while let Some(event) = asked.recv().await {
            match event {
                Event::Change { reply, .. } => drop(reply.send(Ok(Done { generation: 9, ..Done::default() }))),
                Event::Query { reply, .. } => {
                    looks += 1;
                    let mut state: State = testing::forwarding();
                    let backend = &mut state.counters.forwards[0].backends[0];
                    (backend.slots, backend.packets) = (slots, looks.min(packets));
                    let _ = reply.send(state);
                }
                other => panic!("{other:?}"),
            }
        }
    });
    let socket = AdminSocket::bind(&path, &SocketAccess::default()).unwrap();
    tokio::spawn(serve(socket, events, false, Room::new(8)));
    (dir, Client::new(&path))
}

async fn drained(slots: u32, packets: u64) -> (Result<ExitCode, ClientError>, Duration) {
    let (_dir, client) = daemon(slots, packets);
    let at = At { pool: "q".into(), address: "10.0.0.7:5353".parse().unwrap(), unless: Default::default() };
    let start = Instant::now();
    let result = drain(&at, Some(Duration::from_secs(30)), &client, &Out::new(true)).await;
    (result, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_backend_has_drained_when_it_was_sent_nothing_for_a_while() {
    let (result, after) = drained(0, 10).await;
    assert!(result.is_ok(), "{result:?}");
    assert!(after >= QUIET + 8 * LOOK && after < Duration::from_secs(30), "{after:?}");
    // New flows go there still.
    let (result, after) = drained(1, 10).await;
    assert!(result.unwrap_err().to_string().contains("is still sent packets after 35s") && after.as_secs() >= 30);
    // Its flows do not end.
    assert!(drained(0, u64::MAX).await.0.is_err());
}
