//! Compares parsed tensors with those read from complete JSON documents.

use proptest::{collection::vec, prelude::*};
use serde_json::Value;

use super::*;
use test_support::damage::cases;

/// Nested arrays of numbers, mostly of different lengths.
fn json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        8 => (-1e6..1e6f64).prop_map(Value::from),
        8 => any::<i64>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(Value::from("1")),
    ];
    number.prop_recursive(4, 24, 3, |inner| vec(inner, 0..4).prop_map(Value::Array))
}

/// A tensor whose arrays have the lengths of its shape.
fn rectangular() -> impl Strategy<Value = (Vec<usize>, Value)> {
    vec(1..4usize, 1..5).prop_map(|shape| {
        let flat =
            (0..shape.iter().product::<usize>()).map(|value| Value::from(value as f64 / 4.0));
        let mut level: Vec<Value> = flat.collect();
        for size in shape.iter().rev() {
            level = level
                .chunks(*size)
                .map(|array| Value::Array(array.to_vec()))
                .collect();
        }
        (shape, level.remove(0))
    })
}

/// Lengths at each depth and the numbers, if all arrays of a depth have the same length.
fn reference(json: &Value) -> Option<(Vec<usize>, Vec<f32>)> {
    match json {
        Value::Number(number) => Some((Vec::new(), vec![number.as_f64()? as f32])),
        Value::Array(array) => {
            let parts = array.iter().map(reference).collect::<Option<Vec<_>>>()?;
            let inner = parts
                .first()
                .map_or(Vec::new(), |(lengths, _)| lengths.clone());
            let alike = parts.iter().all(|(lengths, _)| *lengths == inner);
            let values = parts.into_iter().flat_map(|(_, values)| values).collect();
            alike.then(|| ([vec![array.len()], inner].concat(), values))
        }
        _ => None,
    }
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn any_json_is_read_as_by_a_reader_of_whole_documents(json in json()) {
        let expected = reference(&json).filter(|(lengths, _)| !lengths.is_empty());
        let found = serde_json::from_str::<TensorData>(&json.to_string());
        let found = found.ok().map(|data| (data.nesting, data.values));
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn evenly_nested_data_is_accepted((shape, json) in rectangular()) {
        let data: TensorData = serde_json::from_str(&json.to_string()).unwrap();
        prop_assert_eq!(data.values.len(), shape.iter().product::<usize>());
        prop_assert_eq!(data.nesting, shape);
    }
}
