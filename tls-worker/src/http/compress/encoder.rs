//! Three libraries under one roof: bytes go in, what is ready comes out.
//!
//! Effort is what is worth its time on a thread that serves others: gzip 5, br 4, zstd 3; windows are small, so that an
//! answer holds at most some 1 MiB (br, zstd) or 300 KiB (gzip).

use crate::api::Coding;
use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use bytes::Bytes;
use flate2::write::GzEncoder;
use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;
use zstd::stream::write::Encoder as ZstdEncoder;
use zstd::zstd_safe::CParameter;

const GZIP: u32 = 5;
const BR: i32 = 4;
const ZSTD: i32 = 3;
/// Bits of the windows of br and zstd.
const WINDOW: u32 = 18;
/// Bytes that br gathers before it looks at them.
const BR_BUFFER: usize = 16 << 10;

/// See the module.
pub(super) struct Encoder {
    kind: Option<Kind>,
    out: Out,
}

enum Kind {
    // Boxed: they are large.
    Gzip(Box<GzEncoder<Out>>),
    Br(Box<CompressorWriter<Out>>),
    Zstd(Box<ZstdEncoder<'static, Out>>),
}

/// What came out.
#[derive(Clone, Default)]
struct Out(Rc<RefCell<Vec<u8>>>);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Encoder {
    pub(super) fn new(coding: Coding) -> io::Result<Self> {
        let out = Out::default();
        let kind = match coding {
            Coding::Gzip => {
                let level = flate2::Compression::new(GZIP);
                Kind::Gzip(Box::new(GzEncoder::new(out.clone(), level)))
            }
            Coding::Br => {
                let params = BrotliEncoderParams { quality: BR, lgwin: WINDOW as i32, ..Default::default() };
                Kind::Br(Box::new(CompressorWriter::with_params(out.clone(), BR_BUFFER, &params)))
            }
            Coding::Zstd => {
                let mut encoder = ZstdEncoder::new(out.clone(), ZSTD)?;
                encoder.set_parameter(CParameter::WindowLog(WINDOW))?;
                Kind::Zstd(Box::new(encoder))
            }
        };
        Ok(Encoder { kind: Some(kind), out })
    }

    fn writer(&mut self) -> io::Result<&mut dyn Write> {
        match self.kind.as_mut() {
            Some(Kind::Gzip(encoder)) => Ok(encoder),
            Some(Kind::Br(encoder)) => Ok(encoder),
            Some(Kind::Zstd(encoder)) => Ok(encoder),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// These bytes go in.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer()?.write_all(bytes)
    }

    /// All that went in is to come out.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer()?.flush()
    }

    /// Nothing more goes in: the end comes out.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        match self.kind.take() {
            Some(Kind::Gzip(encoder)) => drop(encoder.finish()?),
            // It writes the end when it gives its writer back.
            Some(Kind::Br(encoder)) => drop(encoder.into_inner()),
            Some(Kind::Zstd(encoder)) => drop(encoder.finish()?),
            None => {}
        }
        Ok(())
    }

    /// Bytes that have come out.
    pub(super) fn ready(&self) -> usize {
        self.out.0.borrow().len()
    }

    /// What has come out.
    pub(super) fn take(&mut self) -> Bytes {
        std::mem::take(&mut *self.out.0.borrow_mut()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ALL_CODINGS;
    use proptest::prelude::*;
    use std::io::Read;

    pub(super) fn decode(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut text).map(drop),
            Coding::Br => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut text).map(drop),
            Coding::Zstd => zstd::stream::copy_decode(bytes, &mut text),
        }
        .unwrap();
        text
    }

    #[test]
    fn what_was_flushed_can_be_read_at_once() {
        for coding in ALL_CODINGS {
            let mut encoder = Encoder::new(coding).unwrap();
            encoder.write(b"first part").unwrap();
            encoder.flush().unwrap();
            let first = encoder.take();
            let mut text = [0; 10];
            match coding {
                Coding::Gzip => flate2::read::GzDecoder::new(&first[..]).read_exact(&mut text),
                Coding::Br => brotli::Decompressor::new(&first[..], 4096).read_exact(&mut text),
                Coding::Zstd => zstd::stream::read::Decoder::new(&first[..]).unwrap().read_exact(&mut text),
            }
            .unwrap();
            assert_eq!(&text, b"first part", "{coding:?}");
        }
    }

    #[test]
    fn much_text_becomes_little() {
        let text = "the same words again and again\n".repeat(10_000);
        for coding in ALL_CODINGS {
            let mut encoder = Encoder::new(coding).unwrap();
            encoder.write(text.as_bytes()).unwrap();
            encoder.finish().unwrap();
            let small = encoder.take();
            assert!(small.len() < text.len() / 50, "{coding:?}: {}", small.len());
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<bool>()), 0..20)) {
            for coding in ALL_CODINGS {
                let mut encoder = Encoder::new(coding).unwrap();
                let (mut small, mut whole) = (Vec::new(), Vec::new());
                for (part, flush) in &parts {
                    encoder.write(part).unwrap();
                    whole.extend_from_slice(part);
                    if *flush {
                        encoder.flush().unwrap();
                    }
                    small.extend_from_slice(&encoder.take());
                }
                encoder.finish().unwrap();
                small.extend_from_slice(&encoder.take());
                prop_assert_eq!(decode(coding, &small), whole);
            }
        }
    }
}
