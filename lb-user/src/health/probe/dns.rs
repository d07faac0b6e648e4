//! A question for a server of names, over UDP or TCP.

use super::connect::{blame, tcp, udp};
use super::{Answer, Fault, Question, quote};
use crate::config::DnsProbe;
use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use std::str::FromStr as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Bytes of an answer.
const MAX_MESSAGE: usize = 65_535;

pub(super) async fn ask(question: Question<'_>, probe: &DnsProbe) -> Answer {
    let query = query(probe).ok_or_else(|| Fault::Edge(format!("no question can be made of {:?}", probe.name)))?;
    let bytes = query.to_vec().map_err(|e| Fault::Edge(format!("question: {e}")))?;
    if !probe.tcp {
        let answer = datagram(question, &bytes, &query, probe).await?;
        if answer != Said::Truncated {
            return Ok(answer.words());
        }
    }
    Ok(stream(question, &bytes, &query, probe).await?.words())
}

fn query(probe: &DnsProbe) -> Option<Message> {
    let mut name = Name::from_ascii(&probe.name).ok()?;
    name.set_fqdn(true);
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, RecordType::from_str(&probe.record).ok()?));
    Some(message)
}

async fn datagram(question: Question<'_>, bytes: &[u8], query: &Message, probe: &DnsProbe) -> Result<Said, Fault> {
    let socket = udp(question).await?;
    let refused = |e: std::io::Error| blame("UDP", &e);
    socket.send(bytes).await.map_err(refused)?;
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(refused)?;
        match judge(&buffer[..length], query, probe.expect.as_deref()) {
            // To another question: an answer that came too late, or a guess.
            Said::Stranger => {}
            said => return Ok(said),
        }
    }
}

async fn stream(question: Question<'_>, bytes: &[u8], query: &Message, probe: &DnsProbe) -> Result<Said, Fault> {
    let mut stream = tcp(question).await?;
    let broken = |e: std::io::Error| Fault::Backend(format!("connection: {e}"));
    let length = u16::try_from(bytes.len()).map_err(|e| Fault::Edge(format!("question: {e}")))?;
    // In one write: some servers read a length alone as a question of nothing.
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await.map_err(broken)?;
    let length = stream.read_u16().await.map_err(broken)?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await.map_err(broken)?;
    Ok(judge(&answer, query, probe.expect.as_deref()))
}

/// What the bytes of an answer say to the question with this number; none: it is no answer to it, or there is more over TCP. Pure.
pub fn read(bytes: &[u8], id: u16, probe: &DnsProbe) -> Option<(bool, String)> {
    let mut query = query(probe)?;
    query.metadata.id = id;
    match judge(bytes, &query, probe.expect.as_deref()) {
        Said::Stranger | Said::Truncated => None,
        said => Some(said.words()),
    }
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    /// It is to no question of ours.
    Stranger,
    /// There is more, over TCP.
    Truncated,
    /// It is no message.
    Garbage,
    /// The server says why it does not.
    Refused(ResponseCode),
    /// No such record, or none that is expected; how many there were.
    Lacks(usize),
    /// It has it.
    Good,
}

impl Said {
    fn words(self) -> (bool, String) {
        match self {
            Said::Good => (true, "DNS answer".into()),
            Said::Stranger => (false, "DNS: an answer to something else".into()),
            Said::Truncated => (false, "DNS: an answer that is cut off".into()),
            Said::Garbage => (false, "DNS: no answer that could be read".into()),
            Said::Refused(code) => (false, format!("DNS {}", quote(code.to_str().as_bytes()))),
            Said::Lacks(0) => (false, "DNS: no such record".into()),
            Said::Lacks(many) => (false, format!("DNS: none of {many} records is the expected one")),
        }
    }
}

fn judge(bytes: &[u8], query: &Message, expect: Option<&str>) -> Said {
    let ours = query.metadata.id.to_be_bytes();
    if bytes.get(..2) != Some(&ours[..]) {
        return Said::Stranger;
    }
    let Ok(answer) = Message::from_vec(bytes) else { return Said::Garbage };
    let meta = &answer.metadata;
    if meta.message_type != MessageType::Response || (!answer.queries.is_empty() && answer.queries != query.queries) {
        return Said::Stranger;
    }
    if meta.truncation {
        return Said::Truncated;
    }
    if meta.response_code != ResponseCode::NoError {
        return Said::Refused(meta.response_code);
    }
    let wanted = query.queries.first().map(Query::query_type);
    let records = answer.answers.iter().filter(|record| Some(record.record_type()) == wanted);
    let texts: Vec<String> = records.map(|record| record.data.to_string()).collect();
    let bare = |text: &str| text.trim_end_matches('.').to_ascii_lowercase();
    let good = match expect {
        None => !texts.is_empty(),
        Some(expect) => texts.iter().any(|text| bare(text) == bare(expect)),
    };
    if good { Said::Good } else { Said::Lacks(texts.len()) }
}
