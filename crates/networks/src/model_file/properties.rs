//! Reading an arbitrary `model.toml` fails, or gives a value that survives a round trip.

use proptest::prelude::*;
use test_support::damage::{cases, foreign_text, in_modest_memory};

use super::*;
use crate::tensors;

fn valid() -> Vec<String> {
    let networks = [
        "preset = \"resnet\"\nwidths = [2, 3]\ndepths = [1, 2]\nstem_stride = 2\ndropout = 0.5",
        "preset = \"cnn\"\nwidths = [2, 2]\nstrides = [1, 2]",
        "preset = \"mobilenet_v2\"\nwidth = 0.1\ndepth = 0.2\nconvention = \"tensorflow\"",
        "[[network.layers]]\ntype = \"conv\"\nchannels = 2\nkernel = 3\npadding = \"same\"\ngroups = 1\n\
         [[network.layers]]\ntype = \"batch_norm\"\nepsilon = 0.001\n\
         [[network.layers]]\ntype = \"residual\"\nactivation = \"none\"\n\
         body = [{ type = \"squeeze_excitation\", channels = 1, activation = \"silu\" }]\n\
         [[network.layers]]\ntype = \"flatten\"\n\
         [[network.layers]]\ntype = \"linear\"\nfeatures = 2",
        "[[network.layers]]\ntype = \"conv\"\nchannels = 2\nkernel = 3\npadding = 1\n\
         [[network.layers]]\ntype = \"flatten\"\n\
         [[network.layers]]\ntype = \"linear\"\nfeatures = 2",
    ];
    let file = |network: &str| {
        format!(
            "format_version = 1\nclass_names = [\"a\", \"b\"]\nnormalization_mean = [0.5]\n\
             normalization_std = [0.25]\n[network]\ninput = [1, 8, 8]\nclasses = 2\n{network}\n"
        )
    };
    networks.map(file).into()
}

#[test]
fn the_files_to_damage_are_valid() {
    for text in valid() {
        ModelFile::from_toml(&text).unwrap();
    }
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn a_foreign_file_is_refused_or_survives_a_round_trip(text in foreign_text(valid())) {
        let read = in_modest_memory(|| ModelFile::from_toml(&text));
        match read {
            Ok(file) => {
                let again = file.to_toml().unwrap();
                prop_assert_eq!(ModelFile::from_toml(&again).unwrap(), file.clone());
                // The shapes of an accepted network are known.
                tensors(&file.network.layers().unwrap());
            }
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1, "{}", error),
        }
    }
}
