//! ClientHellos: made by hand, and cut into small pieces on their way.

use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::task::spawn_local;

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &(content.len() as u16).to_be_bytes(), content].concat()
}

/// What a browser might send, GREASE and an encrypted hello included, in one record.
pub(crate) fn hello(name: Option<&str>, alpn: &[&str]) -> Vec<u8> {
    let mut extensions = extension(0x1a1a, &[]);
    if let Some(name) = name {
        let length = name.len() as u16;
        let list = [&(length + 3).to_be_bytes()[..], &[0], &length.to_be_bytes(), name.as_bytes()].concat();
        extensions.extend(extension(0, &list));
    }
    let names: Vec<u8> = alpn.iter().flat_map(|n| [&[n.len() as u8], n.as_bytes()].concat()).collect();
    if !names.is_empty() {
        extensions.extend(extension(16, &[&(names.len() as u16).to_be_bytes()[..], &names].concat()));
    }
    extensions.extend(extension(0xfe0d, &[0xee; 200]));
    extensions.extend(extension(0xdada, &[0]));
    let mut body = vec![3, 3];
    body.extend([9; 32]);
    body.extend([0, 0, 4, 0xba, 0xba, 0x13, 0x01, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let message = [&[1, 0][..], &(body.len() as u16).to_be_bytes(), &body].concat();
    records(&message, message.len())
}

/// The message in records of so many bytes.
fn records(message: &[u8], each: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[22, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat();
    message.chunks(each).flat_map(record).collect()
}

/// A connection whose first record goes out in records of so many bytes, one byte a packet.
pub(crate) async fn chopped(at: SocketAddr, each: usize) -> DuplexStream {
    let mut socket = TcpStream::connect(at).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let (ours, mut theirs) = tokio::io::duplex(64 << 10);
    spawn_local(async move {
        let mut header = [0; 5];
        theirs.read_exact(&mut header).await.unwrap();
        let mut message = vec![0; u16::from_be_bytes([header[3], header[4]]).into()];
        theirs.read_exact(&mut message).await.unwrap();
        for byte in records(&message, each) {
            socket.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let _ = tokio::io::copy_bidirectional(&mut socket, &mut theirs).await;
    });
    ours
}
