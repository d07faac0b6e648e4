//! Times as logs have them, in UTC.

use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment, to the millisecond.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    seconds: u64,
    millis: u32,
}

impl Stamp {
    pub(super) fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Stamp { seconds: since.as_secs(), millis: since.subsec_millis() }
    }

    fn date(self) -> OffsetDateTime {
        let seconds = i64::try_from(self.seconds).unwrap_or_default();
        OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// `2026-01-31T12:00:00.123Z`
    pub(super) fn iso8601(self) -> String {
        let d = self.date();
        let (month, millis) = (u8::from(d.month()), self.millis);
        let day = format!("{:04}-{month:02}-{:02}", d.year(), d.day());
        format!("{day}T{:02}:{:02}:{:02}.{millis:03}Z", d.hour(), d.minute(), d.second())
    }

    /// `1769860800.123`
    pub(super) fn unix(self) -> String {
        format!("{}.{:03}", self.seconds, self.millis)
    }

    /// `31/Jan/2026:12:00:00 +0000`
    pub(super) fn clf(self) -> String {
        let d = self.date();
        let month = MONTHS[usize::from(u8::from(d.month()) - 1)];
        format!("{:02}/{month}/{:04}:{:02}:{:02}:{:02} +0000", d.day(), d.year(), d.hour(), d.minute(), d.second())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_known_moment() {
        let stamp = Stamp::of(UNIX_EPOCH + Duration::from_millis(1_769_860_805_012));
        assert_eq!(stamp.iso8601(), "2026-01-31T12:00:05.012Z");
        assert_eq!(stamp.unix(), "1769860805.012");
        assert_eq!(stamp.clf(), "31/Jan/2026:12:00:05 +0000");
        assert_eq!(Stamp::of(UNIX_EPOCH).clf(), "01/Jan/1970:00:00:00 +0000");
    }
}
