//! A `model.toml` from anywhere is refused, or says the same when it is written again.

use proptest::prelude::*;
use test_support::damage::{cases, foreign_text, in_modest_memory};

use super::*;
use crate::tensors;

fn valid() -> Vec<String> {
    let networks = [
        "preset = \"resnet\"\nwidths = [2, 3]\ndepths = [1, 2]\nstem_stride = 2\ndropout = 0.5",
        "preset = \"cnn\"\nwidths = [2, 2]\nstrides = [1, 2]",
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
fn the_files_that_are_damaged_here_are_valid() {
    for text in valid() {
        ModelFile::from_toml(&text).unwrap();
    }
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn a_foreign_file_is_refused_or_says_the_same_again(text in foreign_text(valid())) {
        let read = in_modest_memory(|| ModelFile::from_toml(&text));
        match read {
            Ok(file) => {
                let again = file.to_toml().unwrap();
                prop_assert_eq!(ModelFile::from_toml(&again).unwrap(), file.clone());
                // Shapes and sizes of what was let through can be worked out.
                tensors(&file.network.layers().unwrap());
            }
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1, "{}", error),
        }
    }
}
