//! The depth of JSON is that of its values, whatever its strings hold.

use proptest::{collection::vec, prelude::*};
use serde_json::Value;

use super::*;
use test_support::damage::{cases, foreign};

fn json() -> impl Strategy<Value = Value> {
    let text = "[\\[\\]{}\"\\\\a\u{e9}]{0,8}";
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        text.prop_map(Value::from)
    ];
    leaf.prop_recursive(6, 40, 3, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::Array),
            vec((text, inner), 0..3).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn depth(json: &Value) -> usize {
    match json {
        Value::Array(array) => 1 + array.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn json_is_as_deep_as_its_values(json in json(), around in 0..40usize) {
        let text = format!("{}{json}{}", "[".repeat(around), "]".repeat(around));
        let expected = depth(&json) + around <= MAX_DEPTH;
        prop_assert_eq!(check_depth(text.as_bytes()).is_ok(), expected);
    }

    #[test]
    fn what_passes_is_never_too_deep_for_the_parser(
        text in foreign(vec![br#"{"a": [[{"b": "]\"["}, 1], "\\"], "c": [[[0]]]}"#.to_vec()]),
    ) {
        if check_depth(&text).is_ok()
            && let Ok(json) = serde_json::from_slice::<Value>(&text)
        {
            prop_assert!(depth(&json) <= MAX_DEPTH);
        }
    }
}
