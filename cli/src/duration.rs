//! Durations for readers.

/// Formats a duration: "7.0 s", "2 min 5 s", "3 h 12 min". `indicatif::HumanDuration` would round to minutes.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in [
            (7.04, "7.0 s"),
            (125.4, "2 min 5 s"),
            (3599.6, "1 h 0 min"),
            (11_555.0, "3 h 12 min"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
