//! Reading an arbitrary weights file fails, or gives weights that survive a round trip.

use proptest::{collection::vec, prelude::*};

use super::*;
use test_support::damage::{cases, foreign, in_modest_memory};

fn spec() -> NetworkSpec {
    let text = "input = [1, 4, 4]\nclasses = 2\npreset = \"cnn\"\nwidths = [2]";
    NetworkSpec::from_toml(text).unwrap()
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn weights_come_back_bit_by_bit(seed in any::<u64>(), scale in vec(-1e38f32..1e38, 4)) {
        let mut weights = Weights::initial(&spec(), seed).unwrap();
        for tensor in weights.tensors.values_mut() {
            tensor.data.iter_mut().zip(&scale).for_each(|(value, scale)| *value = *scale);
        }
        let file = weights.to_safetensors().unwrap();
        let read = Weights::from_safetensors(&file, &spec()).unwrap();
        prop_assert_eq!(read.to_safetensors().unwrap(), file);
        prop_assert_eq!(read, weights);
    }

    #[test]
    fn a_foreign_file_is_refused_or_survives_a_round_trip(
        file in foreign(vec![Weights::initial(&spec(), 1).unwrap().to_safetensors().unwrap()]),
    ) {
        if let Ok(weights) = in_modest_memory(|| Weights::from_safetensors(&file, &spec())) {
            let again = weights.to_safetensors().unwrap();
            prop_assert_eq!(Weights::from_safetensors(&again, &spec()).unwrap(), weights);
        }
    }
}
