//! What functions there are. Each is of bytes, and pure.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use std::borrow::Cow;

/// See [`NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    After,
    Before,
    Base64,
    Base64Decode,
    UrlEncode,
    Lower,
    Default,
}

/// Functions by their names in the config, and how many arguments they take.
pub(super) const NAMES: &[(&str, Function, usize)] = &[
    ("after", Function::After, 2),
    ("before", Function::Before, 2),
    ("base64", Function::Base64, 1),
    ("base64_decode", Function::Base64Decode, 1),
    ("urlencode", Function::UrlEncode, 1),
    ("lower", Function::Lower, 1),
    ("default", Function::Default, 2),
];

/// RFC 3986, 2.3: what needs no encoding anywhere in a URL.
const NOT_UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// With padding or without (RFC 4648, 3.2 leaves it to the context; clients of Basic do either).
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Function {
    /// None: undefined. `values` are as many as the function takes.
    pub(super) fn call<'a>(self, values: Vec<Cow<'a, [u8]>>) -> Option<Cow<'a, [u8]>> {
        let mut values = values.into_iter();
        let (first, second) = (values.next()?, values.next());
        match self {
            Function::After => {
                let mark = second?;
                let at = find(&first, &mark)? + mark.len();
                Some(part(first, at..))
            }
            Function::Before => {
                let at = find(&first, &second?)?;
                Some(part(first, ..at))
            }
            Function::Base64 => Some(STANDARD.encode(first).into_bytes().into()),
            Function::Base64Decode => LENIENT.decode(first).ok().map(Cow::Owned),
            Function::UrlEncode => Some(percent_encode(&first, NOT_UNRESERVED).to_string().into_bytes().into()),
            Function::Lower => Some(first.to_ascii_lowercase().into()),
            Function::Default => Some(first),
        }
    }
}

fn part<'a, R>(whole: Cow<'a, [u8]>, range: R) -> Cow<'a, [u8]>
where
    R: std::slice::SliceIndex<[u8], Output = [u8]>,
{
    match whole {
        Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[range]),
        Cow::Owned(bytes) => Cow::Owned(bytes[range].to_vec()),
    }
}

/// Where a mark begins first.
fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    if mark.is_empty() {
        return Some(0);
    }
    bytes.windows(mark.len()).position(|window| window == mark)
}
