//! Access logs: what is written of each request.

use serde::{Deserialize, Serialize};

/// Lines of one kind. Where they go is the control plane's business: the worker opens no file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccessLog {
    /// Name, unique.
    pub name: String,
    /// What a line says.
    pub format: LogFormat,
    /// One request in so many.
    pub sample: u32,
    /// Answers of 500 and above are written whatever `sample` says.
    pub errors_always: bool,
    /// Bytes that wait at a thread; lines over that are dropped.
    pub buffer: u32,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// An object of these fields, each a text with variables.
    Json(Vec<(String, String)>),
    /// Apache's Common Log Format.
    Common,
    /// The same, with referrer and user agent.
    Combined,
    /// A text with variables.
    Text(String),
}

/// Frames of lines, as they come out of a worker's pipe.
pub mod frames {
    /// Longest line, bytes; what is longer is cut.
    pub const MAX_LINE: usize = 32 << 10;
    /// Bytes of a frame's head: length of the name, length of the line (big endian).
    const HEAD: usize = 5;

    /// Add a frame: the log's name, and a line without its end.
    pub fn write(to: &mut Vec<u8>, log: &str, line: &[u8]) {
        let (log, line) = (&log.as_bytes()[..log.len().min(255)], &line[..line.len().min(MAX_LINE)]);
        to.push(log.len() as u8);
        to.extend_from_slice(&(line.len() as u32).to_be_bytes());
        to.extend_from_slice(log);
        to.extend_from_slice(line);
    }

    /// The first whole frame: the log's name, the line, and what follows. None: it is not whole yet. The error: these
    /// are no frames.
    #[expect(clippy::type_complexity, reason = "three slices of one")]
    pub fn read(bytes: &[u8]) -> Result<Option<(&str, &[u8], &[u8])>, &'static str> {
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return Ok(None) };
        let [name, a, b, c, d] = *head;
        let (name, line) = (usize::from(name), u32::from_be_bytes([a, b, c, d]) as usize);
        if line > MAX_LINE {
            return Err("a line over the bound");
        }
        let Some((frame, rest)) = rest.split_at_checked(name + line) else { return Ok(None) };
        let (name, line) = frame.split_at(name);
        let name = str::from_utf8(name).map_err(|_| "a name that is no text")?;
        Ok(Some((name, line, rest)))
    }
}

#[cfg(test)]
mod tests {
    use super::frames::{MAX_LINE, read, write};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(lines in prop::collection::vec(("[a-z]{1,9}", prop::collection::vec(any::<u8>(), 0..99)), 0..9), cut in 0usize..99) {
            let mut bytes = Vec::new();
            for (log, line) in &lines {
                write(&mut bytes, log, line);
            }
            let mut rest = &bytes[..];
            for (log, line) in &lines {
                let (name, found, after) = read(rest).unwrap().unwrap();
                prop_assert_eq!((name, found), (log.as_str(), line.as_slice()));
                let whole = rest.len() - after.len();
                prop_assert_eq!(read(&rest[..cut % whole]), Ok(None));
                rest = after;
            }
            prop_assert_eq!(read(rest), Ok(None));
        }
    }

    #[test]
    fn a_line_is_bounded() {
        let mut bytes = Vec::new();
        write(&mut bytes, "a", &vec![b'x'; MAX_LINE + 9]);
        assert_eq!(read(&bytes).unwrap().unwrap().1.len(), MAX_LINE);
        bytes[1] = 0xff;
        assert!(read(&bytes).is_err());
    }
}
