//! Times (`"25s"`) and sizes (`"10KiB"`).

use std::{ops::RangeInclusive, time::Duration};

use bytesize::ByteSize;

use super::{Rule, string};
use crate::config::error::Reason;

/// 1,024 bytes.
pub(crate) const KIB: usize = 1_024;
/// 1,024 KiB.
pub(crate) const MIB: usize = 1_024 * KIB;

/// A time within limits, written as `"25s"`, `"500ms"` or `"1m 30s"`.
pub(crate) struct Time {
    range: RangeInclusive<Duration>,
    off: bool,
    whole_seconds: bool,
}

impl Time {
    const EXPECTED: &'static str = r#"a time such as "25s" or "500ms""#;

    /// Within these limits, both allowed.
    pub(crate) const fn within(range: RangeInclusive<Duration>) -> Self {
        Self { range, off: false, whole_seconds: false }
    }

    /// Zero is allowed too, and means "off".
    pub(crate) const fn or_off(mut self) -> Self {
        self.off = true;
        self
    }

    /// The wire carries it in seconds.
    pub(crate) const fn in_whole_seconds(mut self) -> Self {
        self.whole_seconds = true;
        self
    }
}

impl Rule for Time {
    type Value = Duration;

    fn decode(&self, value: &toml::Value) -> Result<Duration, Reason> {
        let text = string(value, Self::EXPECTED)?;
        humantime::parse_duration(text).map_err(|_| Reason::Malformed { expected: Self::EXPECTED, found: text.to_owned() })
    }

    fn check(&self, value: &Duration) -> Result<(), Reason> {
        if self.off && value.is_zero() {
            return Ok(());
        }
        if !self.range.contains(value) {
            return Err(Reason::OutOfRange {
                found: time_text(*value),
                at_least: time_text(*self.range.start()),
                at_most: time_text(*self.range.end()),
                or: if self.off { ", or 0s" } else { "" },
            });
        }
        if self.whole_seconds && value.subsec_nanos() != 0 {
            return Err(Reason::NotWholeSeconds { found: time_text(*value) });
        }
        Ok(())
    }

    fn encode(&self, value: &Duration) -> toml::Value {
        toml::Value::String(time_text(*value))
    }
}

pub(crate) fn time_text(time: Duration) -> String {
    // "120s" and not "2m": the form of the documentation.
    if time.subsec_nanos() == 0 { format!("{}s", time.as_secs()) } else { humantime::format_duration(time).to_string() }
}

/// A number of bytes within limits, written as `"10KiB"` or `10240`.
pub(crate) struct Size(pub(crate) RangeInclusive<usize>);

impl Size {
    const EXPECTED: &'static str = r#"a size such as "10KiB", or a number of bytes"#;

    fn out_of_range(&self, found: String) -> Reason {
        Reason::OutOfRange { found, at_least: size_text(*self.0.start()), at_most: size_text(*self.0.end()), or: "" }
    }
}

impl Rule for Size {
    type Value = usize;

    fn decode(&self, value: &toml::Value) -> Result<usize, Reason> {
        if let Some(bytes) = value.as_integer() {
            return usize::try_from(bytes).map_err(|_| self.out_of_range(bytes.to_string()));
        }
        let text = string(value, Self::EXPECTED)?;
        let size: ByteSize = text.trim().parse().map_err(|_| Reason::Malformed { expected: Self::EXPECTED, found: text.to_owned() })?;
        usize::try_from(size.as_u64()).map_err(|_| self.out_of_range(text.to_owned()))
    }

    fn check(&self, value: &usize) -> Result<(), Reason> {
        if self.0.contains(value) { Ok(()) } else { Err(self.out_of_range(size_text(*value))) }
    }

    fn encode(&self, value: &usize) -> toml::Value {
        toml::Value::String(size_text(*value))
    }
}

/// The exact size in the largest unit that divides it.
pub(crate) fn size_text(bytes: usize) -> String {
    match bytes {
        0 => "0B".to_owned(),
        _ if bytes.is_multiple_of(MIB) => format!("{}MiB", bytes / MIB),
        _ if bytes.is_multiple_of(KIB) => format!("{}KiB", bytes / KIB),
        _ => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rules::Given;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn times_are_read_and_limited() {
        let rule = Time::within(Duration::from_millis(100)..=secs(60));
        assert_eq!(rule.read(Given::Text("25s")), Ok(secs(25)));
        assert_eq!(rule.read(Given::Text("500ms")), Ok(Duration::from_millis(500)));
        assert_eq!(rule.read(Given::Text("100ms")), Ok(Duration::from_millis(100)));
        assert_eq!(
            rule.read(Given::Text("99ms")).map_err(|reason| reason.to_string()),
            Err("99ms is out of range: at least 100ms, at most 60s".to_owned())
        );
        assert!(rule.read(Given::Text("61s")).is_err());
        assert_eq!(
            rule.read(Given::Text("25")).map_err(|reason| reason.to_string()),
            Err(r#"expected a time such as "25s" or "500ms", found "25""#.to_owned())
        );
        assert_eq!(
            rule.read(Given::Value(&toml::Value::Integer(25))).map_err(|reason| reason.to_string()),
            Err(r#"expected a time such as "25s" or "500ms", found a whole number"#.to_owned())
        );
    }

    #[test]
    fn zero_is_a_time_only_where_it_means_off() {
        let rule = Time::within(secs(1)..=secs(60));
        assert!(rule.read(Given::Text("0s")).is_err());
        let rule = rule.or_off();
        assert_eq!(rule.read(Given::Text("0s")), Ok(Duration::ZERO));
        assert_eq!(
            rule.read(Given::Text("1ms")).map_err(|reason| reason.to_string()),
            Err("1ms is out of range: at least 1s, at most 60s, or 0s".to_owned())
        );
    }

    #[test]
    fn a_time_for_the_wire_has_whole_seconds() {
        let rule = Time::within(secs(1)..=secs(60)).in_whole_seconds();
        assert_eq!(rule.read(Given::Text("2s")), Ok(secs(2)));
        assert!(matches!(rule.read(Given::Text("1500ms")), Err(Reason::NotWholeSeconds { .. })));
    }

    #[test]
    fn sizes_are_read_and_limited() {
        let rule = Size(KIB..=16 * MIB);
        assert_eq!(rule.read(Given::Text("10KiB")), Ok(10_240));
        assert_eq!(rule.read(Given::Text("2048")), Ok(2_048));
        assert_eq!(rule.read(Given::Value(&toml::Value::Integer(65_536))), Ok(65_536));
        assert_eq!(rule.read(Given::Text("16MiB")), Ok(16 * MIB));
        assert_eq!(
            rule.read(Given::Text("17MiB")).map_err(|reason| reason.to_string()),
            Err("17MiB is out of range: at least 1KiB, at most 16MiB".to_owned())
        );
        assert!(rule.read(Given::Text("1023B")).is_err());
        assert!(rule.read(Given::Text("-1")).is_err());
        assert!(rule.read(Given::Text("much")).is_err());
        assert!(rule.read(Given::Value(&toml::Value::Integer(-1))).is_err());
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        let time = Time::within(Duration::ZERO..=secs(10_000));
        for value in [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(1_500), secs(120), secs(1_800)] {
            assert_eq!(time.decode(&time.encode(&value)), Ok(value));
        }
        let size = Size(0..=usize::MAX);
        for value in [0, 1, 1_023, KIB, 1_025, 3 * MIB, MIB + KIB] {
            assert_eq!(size.decode(&size.encode(&value)), Ok(value));
        }
        assert_eq!(time.encode(&secs(120)), toml::Value::String("120s".to_owned()));
    }
}
