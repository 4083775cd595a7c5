//! The caller's deadline.

use std::time::{Duration, Instant};

use tonic::metadata::MetadataMap;

/// A DEADLINE_EXCEEDED response is sent this long before the caller's deadline, to arrive in time.
const ANSWER_MARGIN: Duration = Duration::from_millis(2);

/// The caller's deadline less [`ANSWER_MARGIN`], if it has one.
pub(super) fn deadline(metadata: &MetadataMap) -> Option<Instant> {
    let timeout = parse_timeout(metadata.get("grpc-timeout")?.to_str().ok()?)?;
    Instant::now().checked_add(timeout.saturating_sub(ANSWER_MARGIN))
}

/// Parses the header: at most 8 digits and a unit
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_the_protocols_format() {
        let cases = [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("250m", Duration::from_millis(250)),
            ("3u", Duration::from_micros(3)),
            ("0n", Duration::ZERO),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_timeout(text), Some(expected), "{text}");
        }
        for bad in ["", "1", "S", "1s", "-1S", "+1S", "123456789S", "1é", "é"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }
}
