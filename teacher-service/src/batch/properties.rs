//! Arbitrary tensors are rejected, or contain as many values as their shape requires.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use test_support::damage::{cases, in_modest_memory};

fn expected(data_type: tensors::DataType) -> TensorSpec {
    TensorSpec::batch_of("x", data_type, &[1, 2, 3])
}

fn tensor() -> impl Strategy<Value = Tensor> {
    let size = prop_oneof![
        select(vec![0, 1, 2, 3, u64::MAX, 1 << 63, 1 << 32]),
        any::<u64>()
    ];
    let shape = prop_oneof![
        vec(size.clone(), 0..6),
        size.prop_map(|samples| vec![samples, 1, 2, 3]),
        (1..4u64).prop_map(|samples| vec![samples, 1, 2, 3]),
    ];
    let data = prop_oneof![
        vec(any::<u8>(), 0..100),
        (1..4usize).prop_flat_map(|samples| vec(any::<u8>(), samples * 6)),
        (1..4usize).prop_flat_map(|samples| vec(any::<u8>(), samples * 24)),
    ];
    (-1..4i32, shape, data).prop_map(|(data_type, shape, data)| Tensor {
        data_type,
        shape,
        data: data.into(),
    })
}

proptest! {
    #![proptest_config(cases(5000))]

    #[test]
    fn a_batch_holds_what_its_shape_says(tensor in tensor(), images: bool) {
        let data = tensor.data.clone();
        let expected = expected(if images { tensors::DataType::Uint8 } else { tensors::DataType::Fp32 });
        let batch = in_modest_memory(|| Batch::from_tensor(Some(tensor.clone()), &expected));
        match batch {
            Ok(batch) => {
                prop_assert_eq!(&tensor.shape, &[batch.samples as u64, 1, 2, 3]);
                let bytes = match &batch.input {
                    Input::U8(pixels) => pixels.to_vec(),
                    Input::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
                };
                let size = if tensor.data_type() == DataType::U8 { 1 } else { 4 };
                prop_assert_eq!(bytes.len(), batch.samples * 6 * size);
                prop_assert_eq!(bytes, data);
            }
            Err(problem) => prop_assert!(problem.to_string().len() < 500, "{}", problem),
        }
    }
}
