//! Tensors as the raw bytes of the Open Inference Protocol: row-major, little-endian.

use std::ops::Range;

use bytes::Bytes;
use half::f16;
use proto::inference::ModelInferResponse;
use tensors::DataType;

use crate::batch::Input;

/// Writes the samples of `range`, of `samples` in `input`, as `data_type`; repeats the first of them
/// until there are `sent`.
///
/// # Errors
/// If a value cannot be converted, in words for the user.
pub(super) fn write(
    input: &Input,
    data_type: DataType,
    range: Range<usize>,
    samples: usize,
    sent: usize,
) -> Result<Bytes, String> {
    let values = match input {
        Input::U8(bytes) => bytes.len(),
        Input::F32(values) => values.len(),
    } / samples;
    let (first, missing) = (range.start * values, sent - range.len());
    let taken = first..range.end * values;
    if let (Input::U8(bytes), DataType::Uint8, 0) = (input, data_type, missing) {
        return Ok(bytes.slice(taken));
    }
    let value = |index: usize| match input {
        Input::U8(bytes) => f32::from(bytes[index]),
        Input::F32(values) => values[index],
    };
    let fill = std::iter::repeat_n(first..first + values, missing).flatten();
    let values = taken.chain(fill).map(value);
    let bytes = match data_type {
        DataType::Fp32 => values.flat_map(f32::to_le_bytes).collect(),
        DataType::Fp64 => values
            .flat_map(|value| f64::from(value).to_le_bytes())
            .collect(),
        DataType::Fp16 => values
            .flat_map(|value| f16::from_f32(value).to_le_bytes())
            .collect(),
        DataType::Uint8 => integers(values, data_type, u8::to_le_bytes)?,
        DataType::Int8 => integers(values, data_type, i8::to_le_bytes)?,
        DataType::Int32 => integers(values, data_type, i32::to_le_bytes)?,
        DataType::Int64 => integers(values, data_type, i64::to_le_bytes)?,
        other => {
            return Err(format!(
                "the model takes {other}, which no batch can be converted to"
            ));
        }
    };
    Ok(Bytes::from(bytes))
}

fn integers<T: TryFrom<i64>, const SIZE: usize>(
    values: impl Iterator<Item = f32>,
    data_type: DataType,
    to_bytes: impl Fn(T) -> [u8; SIZE],
) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for value in values {
        let whole = (value.fract() == 0.0).then_some(value as i64);
        let integer = whole.and_then(|value| T::try_from(value).ok());
        let integer = integer
            .ok_or_else(|| format!("a value is {value}, but the model takes {data_type}"))?;
        bytes.extend_from_slice(&to_bytes(integer));
    }
    Ok(bytes)
}

/// Reads the values of `output`.
///
/// # Errors
/// What is wrong with the response, in words for the user.
pub(super) fn read(response: &ModelInferResponse, output: &str) -> Result<Vec<f32>, String> {
    let mut outputs = response.outputs.iter();
    let position = outputs.position(|tensor| tensor.name == output);
    let position =
        position.ok_or_else(|| format!("the server's answer has no output `{output}`"))?;
    let tensor = &response.outputs[position];
    let Some(raw) = response.raw_output_contents.get(position) else {
        let contents = tensor.contents.clone().unwrap_or_default();
        return match &tensor.datatype[..] {
            "FP32" => Ok(contents.fp32_contents),
            "FP64" => Ok(contents
                .fp64_contents
                .iter()
                .map(|value| *value as f32)
                .collect()),
            other => Err(format!("`{output}` is {other}, expected FP32 or FP64")),
        };
    };
    let whole = |size: usize| {
        let count = raw.len();
        let message = format!("`{output}` has {count} bytes, no multiple of {size}");
        (count % size == 0).then_some(()).ok_or(message)
    };
    match &tensor.datatype[..] {
        "FP32" => {
            whole(4)?;
            let values = raw.as_chunks::<4>().0.iter();
            Ok(values.map(|bytes| f32::from_le_bytes(*bytes)).collect())
        }
        "FP64" => {
            whole(8)?;
            let values = raw.as_chunks::<8>().0.iter();
            Ok(values
                .map(|bytes| f64::from_le_bytes(*bytes) as f32)
                .collect())
        }
        "FP16" => {
            whole(2)?;
            let values = raw.as_chunks::<2>().0.iter();
            Ok(values
                .map(|bytes| f16::from_le_bytes(*bytes).to_f32())
                .collect())
        }
        other => Err(format!(
            "`{output}` is {other}, expected FP32, FP64 or FP16"
        )),
    }
}

#[cfg(test)]
mod tests {
    use proto::inference::model_infer_response::InferOutputTensor;

    use super::*;

    #[test]
    fn samples_are_written_in_the_type_of_the_model_and_filled_up() {
        let pixels = Input::U8(Bytes::from_static(&[1, 2, 3, 4, 5, 6]));
        let written = |data_type, range, sent| write(&pixels, data_type, range, 3, sent).unwrap();
        assert_eq!(written(DataType::Uint8, 1..3, 2)[..], [3, 4, 5, 6]);
        assert_eq!(written(DataType::Uint8, 2..3, 3)[..], [5, 6, 5, 6, 5, 6]);
        assert_eq!(
            written(DataType::Int32, 0..1, 1)[..],
            [1, 0, 0, 0, 2, 0, 0, 0]
        );
        let rows = Input::F32(vec![0.5, -1.0]);
        let half = write(&rows, DataType::Fp16, 0..2, 2, 2).unwrap();
        assert_eq!(half[..], [0x00, 0x38, 0x00, 0xbc]);
        let error = write(&rows, DataType::Int64, 0..2, 2, 2).unwrap_err();
        assert!(error.contains("a value is 0.5"), "{error}");
        let error = write(&rows, DataType::Bytes, 0..2, 2, 2).unwrap_err();
        assert!(error.contains("takes BYTES"), "{error}");
    }

    #[test]
    fn answers_are_read_in_any_floating_point_type() {
        let response = |datatype: &str, raw: &[u8]| ModelInferResponse {
            outputs: vec![InferOutputTensor {
                name: "probs".to_owned(),
                datatype: datatype.to_owned(),
                ..InferOutputTensor::default()
            }],
            raw_output_contents: vec![Bytes::copy_from_slice(raw)],
            ..ModelInferResponse::default()
        };
        let one = 1.0_f32.to_le_bytes();
        assert_eq!(read(&response("FP32", &one), "probs"), Ok(vec![1.0]));
        let two = 2.0_f64.to_le_bytes();
        assert_eq!(read(&response("FP64", &two), "probs"), Ok(vec![2.0]));
        assert_eq!(
            read(&response("FP16", &[0x00, 0x38]), "probs"),
            Ok(vec![0.5])
        );
        for (response, output, named) in [
            (response("FP32", &one[1..]), "probs", "3 bytes"),
            (response("INT64", &two), "probs", "is INT64"),
            (response("FP32", &one), "logits", "no output `logits`"),
        ] {
            assert!(read(&response, output).unwrap_err().contains(named));
        }
    }
}
