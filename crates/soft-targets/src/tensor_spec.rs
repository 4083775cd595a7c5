//! The description of a teacher's inputs and outputs in messages.

use proto::teacher::v1 as wire;
use tensors::{DataType, Dimension, Dimensions, TensorSpec};

/// Writes a description. `None` if no message can carry its data type: batches are UINT8 or FP32.
pub fn tensor_to_wire(tensor: &TensorSpec) -> Option<wire::TensorSpec> {
    let data_type = data_type_to_wire(tensor.data_type)?;
    let dimensions = tensor.dimensions.0.iter();
    let shape = dimensions.map(|dimension| match dimension {
        Dimension::Fixed(size) => i64::try_from(*size).unwrap_or(i64::MAX),
        Dimension::Batch | Dimension::Open => -1,
    });
    Some(wire::TensorSpec {
        name: tensor.name.clone(),
        data_type: data_type.into(),
        shape: shape.collect(),
    })
}

/// Reads a description.
///
/// # Errors
/// What is wrong with it, in words for the user.
pub fn tensor_from_wire(tensor: wire::TensorSpec) -> Result<TensorSpec, String> {
    let data_type = match tensor.data_type() {
        wire::DataType::U8 => DataType::Uint8,
        wire::DataType::F32 => DataType::Fp32,
        wire::DataType::Unspecified => {
            return Err(format!("data type {} is not known", tensor.data_type));
        }
    };
    let dimension = |(position, size): (usize, &i64)| match (position, *size) {
        (0, -1) => Ok(Dimension::Batch),
        (_, -1) => Ok(Dimension::Open),
        (_, size) => match usize::try_from(size) {
            Ok(size) if size > 0 => Ok(Dimension::Fixed(size)),
            _ => Err(format!("dimension {position} is {size}")),
        },
    };
    let dimensions = tensor.shape.iter().enumerate().map(dimension);
    Ok(TensorSpec {
        data_type,
        dimensions: Dimensions(dimensions.collect::<Result<_, _>>()?),
        name: tensor.name,
    })
}

/// The data type of a batch's tensor; `None` for types that no message can carry.
pub const fn data_type_to_wire(data_type: DataType) -> Option<wire::DataType> {
    match data_type {
        DataType::Uint8 => Some(wire::DataType::U8),
        DataType::Fp32 => Some(wire::DataType::F32),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_round_trip() {
        let photos = TensorSpec {
            name: "pixels".to_owned(),
            data_type: DataType::Uint8,
            dimensions: Dimensions(vec![
                Dimension::Batch,
                Dimension::Fixed(3),
                Dimension::Open,
                Dimension::Open,
            ]),
        };
        let rows = TensorSpec::batch_of("features", DataType::Fp32, &[30]);
        for tensor in [photos, rows] {
            let message = tensor_to_wire(&tensor).unwrap();
            assert_eq!(tensor_from_wire(message), Ok(tensor));
        }
        let tokens = TensorSpec::batch_of("tokens", DataType::Int64, &[8]);
        assert_eq!(tensor_to_wire(&tokens), None);
    }

    #[test]
    fn what_no_teacher_sends_is_refused() {
        let message = |data_type, shape: &[i64]| wire::TensorSpec {
            name: "x".to_owned(),
            data_type,
            shape: shape.to_vec(),
        };
        for (message, named) in [
            (message(0, &[-1, 3]), "data type 0"),
            (message(9, &[-1, 3]), "data type 9"),
            (message(1, &[-1, 0]), "dimension 1 is 0"),
            (message(1, &[-2]), "dimension 0 is -2"),
        ] {
            assert!(tensor_from_wire(message).unwrap_err().contains(named));
        }
    }
}
