//! Time-outs survive a round trip, or are rejected.

use proptest::prelude::*;

use super::*;
use test_support::damage::{cases, foreign_text};

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn any_text_is_a_timeout_or_none(
        text in foreign_text(["1H", "99999999M", "20S", "300m", "0u", "7n"].map(str::to_owned).into()),
    ) {
        let digits = text.trim_end_matches(['H', 'M', 'S', 'm', 'u', 'n']);
        let written = digits.len() + 1 == text.len()
            && (1..=8).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit());
        prop_assert_eq!(parse_timeout(&text).is_some(), written, "{}", text);
    }

    #[test]
    fn smaller_units_are_parts_of_larger_ones(value in 0..99_999_999u64) {
        let read = |unit: &str, value: u64| parse_timeout(&format!("{value}{unit}")).unwrap();
        let small = value / 1000;
        prop_assert_eq!(read("S", small), read("m", small * 1000));
        prop_assert_eq!(read("m", small), read("u", small * 1000));
        prop_assert_eq!(read("u", small), read("n", small * 1000));
        prop_assert_eq!(read("M", value), Duration::from_secs(60 * value));
        prop_assert_eq!(read("H", value), Duration::from_secs(3600 * value));
    }
}
