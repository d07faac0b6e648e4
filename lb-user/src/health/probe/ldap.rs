//! A simple bind of LDAP (RFC 4511, 4.2), without or with a name and a password.

use super::connect::open;
use super::{Answer, Fault, Question, quote};
use crate::config::LdapProbe;
use bytes::BytesMut;
use lber::common::TagClass;
use lber::structure::{PL, StructureTag};
use lber::structures::{ASNTag as _, Integer, Null, OctetString, Sequence, Tag};
use lber::{Err as Ended, Parser, write};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Bytes of an answer to a bind. It bounds how deep what is nested in it can be.
const MAX_MESSAGE: usize = 4096;
/// protocolOp of RFC 4511: [APPLICATION n].
const BIND_REQUEST: u64 = 0;
const BIND_RESPONSE: u64 = 1;
const UNBIND_REQUEST: u64 = 2;

pub(super) async fn ask(question: Question<'_>, probe: &LdapProbe) -> Answer {
    let mut stream = open(question).await?.stream;
    let broken = |e: std::io::Error| Fault::Backend(format!("connection: {e}"));
    stream.write_all(&bind(probe)?).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    let answer = loop {
        match stream.read(&mut buffer).await.map_err(broken)? {
            0 => return Err(Fault::Backend("LDAP: closed without an answer".into())),
            length => seen.extend_from_slice(&buffer[..length]),
        }
        if let Some(answer) = judge(&seen) {
            break answer;
        }
    };
    // As the protocol wants it; whether it is heard changes nothing.
    let _ = stream
        .write_all(&message(Tag::Null(Null { id: UNBIND_REQUEST, class: TagClass::Application, inner: () }), 2)?)
        .await;
    let _ = stream.shutdown().await;
    Ok(answer)
}

fn bind(probe: &LdapProbe) -> Result<BytesMut, Fault> {
    let octets = |bytes: &[u8]| OctetString { inner: bytes.to_vec(), ..OctetString::default() };
    let password = probe.password.as_ref().map_or(&[][..], |secret| secret.expose());
    let simple = OctetString { id: 0, class: TagClass::Context, inner: password.to_vec() };
    let version = Tag::Integer(Integer { inner: 3, ..Integer::default() });
    let request = Sequence {
        id: BIND_REQUEST,
        class: TagClass::Application,
        inner: vec![version, Tag::OctetString(octets(probe.bind_dn.as_bytes())), Tag::OctetString(simple)],
    };
    message(Tag::Sequence(request), 1)
}

fn message(operation: Tag, id: i64) -> Result<BytesMut, Fault> {
    let number = Tag::Integer(Integer { inner: id, ..Integer::default() });
    let message = Tag::Sequence(Sequence { inner: vec![number, operation], ..Sequence::default() });
    let mut bytes = BytesMut::new();
    write::encode_into(&mut bytes, message.into_structure()).map_err(|e| Fault::Edge(format!("LDAP: {e}")))?;
    Ok(bytes)
}

/// What the bytes of an answer say; none: it is not whole yet. Pure.
pub fn judge(bytes: &[u8]) -> Option<(bool, String)> {
    let strange = || Some((false, "LDAP: no answer to a bind".to_owned()));
    let seen = &bytes[..bytes.len().min(MAX_MESSAGE)];
    match Parser::new().parse(seen) {
        Ok((_, message)) => result(message).map(Some).unwrap_or_else(strange),
        Err(Ended::Incomplete(_)) if bytes.len() < MAX_MESSAGE => None,
        Err(_) => strange(),
    }
}

/// The code of a BindResponse, and what it says.
fn result(message: StructureTag) -> Option<(bool, String)> {
    let operation = message.expect_constructed()?.into_iter().nth(1)?;
    let answer = operation.match_class(TagClass::Application)?.match_id(BIND_RESPONSE)?.expect_constructed()?;
    let mut parts = answer.into_iter().map(|part| part.payload);
    let Some(PL::P(code)) = parts.next() else { return None };
    let code = match code[..] {
        [code] => code,
        _ => return None,
    };
    let PL::P(said) = parts.nth(1)? else { return None };
    let name = match code {
        0 => return Some((true, "LDAP bind".into())),
        // RFC 4511, 4.1.9
        48 => " (inappropriate authentication)",
        49 => " (invalid credentials)",
        51 => " (busy)",
        52 => " (unavailable)",
        53 => " (unwilling to perform)",
        _ => "",
    };
    let said = if said.is_empty() { String::new() } else { format!(", {}", quote(&said)) };
    Some((false, format!("LDAP result {code}{name}{said}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tls_worker::api::Secret;

    #[test]
    fn a_bind_is_what_the_standard_says() {
        let anonymous = bind(&LdapProbe::default()).ok().unwrap();
        assert_eq!(anonymous[..], *b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00");
        let named = LdapProbe { bind_dn: "cn=a".into(), password: Some(Secret::new(b"pw".to_vec())) };
        let named = bind(&named).ok().unwrap();
        assert_eq!(named[..], *b"\x30\x12\x02\x01\x01\x60\x0d\x02\x01\x03\x04\x04cn=a\x80\x02pw");
    }

    #[test]
    fn an_answer_is_waited_for_and_its_code_read() {
        let good = b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00";
        (0..good.len()).for_each(|cut| assert_eq!(judge(&good[..cut]), None, "{cut}"));
        assert_eq!(judge(good), Some((true, "LDAP bind".into())));
        // Lengths as Active Directory writes them.
        let long = b"\x30\x84\0\0\0\x10\x02\x01\x01\x61\x84\0\0\0\x07\x0a\x01\x31\x04\x00\x04\x00";
        assert_eq!(judge(long), Some((false, "LDAP result 49 (invalid credentials)".into())));
        for strange in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\x30\x05\x02\x01\x02\x42\x00", b"\x30\x00"] {
            assert!(judge(strange).is_none_or(|(good, _)| !good), "{}", strange.escape_ascii());
        }
        // Nested as deep as the bound lets it be.
        assert_eq!(judge(&[0x30, 0x80].repeat(4096)).map(|(good, _)| good), Some(false));
    }
}
