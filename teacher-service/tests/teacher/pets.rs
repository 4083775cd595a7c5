//! EfficientNet-Lite0's published ImageNet weights with configs/pets/teacher.toml, on real photographs
//! (`scripts/setup --tests`).

use std::path::{Path, PathBuf};

use bytes::Bytes;
use common::config::Layers;
use datasets::{DataSpec, Shares, Values, read_plain};
use server::program::ServiceConfig;
use teacher_service::{
    backend,
    batch::{Batch, Input},
    config::TeacherConfig,
};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[test]
fn the_class_map_is_right_on_photographs_of_cats_dogs_and_birds() {
    let layers = Layers {
        file: Some(root("configs/pets/teacher.toml")),
        overrides: vec!["compute.precision=f32".into()],
        ..Layers::shipped(TeacherConfig::SHIPPED)
    };
    let mut config: TeacherConfig = layers.load().unwrap();
    config.model.path = root(config.model.path.to_str().unwrap());
    let mut teacher = backend::open(&config.model, &config.compute).unwrap();
    assert_eq!(teacher.description().class_names, ["bird", "cat", "dog"]);
    assert_eq!(
        teacher.description().input.to_string(),
        "`pixels` UINT8 [batch, 3, 224, 224]"
    );

    // All pictures are training pictures: there are too few to hold any out.
    let known = root(".deps/pets/known");
    let spec = DataSpec {
        shares: Shares {
            validation: 0.0,
            test: 0.0,
            ..Shares::default()
        },
        ..DataSpec::new(&known)
    };
    let pictures = datasets::open(&spec, &|_| ()).unwrap().train;
    assert_eq!(pictures.len(), 6);
    assert_eq!(pictures.class_names(), teacher.description().class_names);
    for picture in 0..pictures.len() as u32 {
        let values = read_plain(&*pictures, &[picture], &[3, 224, 224]).unwrap();
        let Values::Uint8(pixels) = values else {
            panic!("pictures have pixels");
        };
        let batch = Batch {
            samples: 1,
            input: Input::U8(Bytes::from(pixels)),
        };
        let logits = teacher.logits(&batch).unwrap();
        let best = (0..3_u32)
            .max_by(|left, right| logits[*left as usize].total_cmp(&logits[*right as usize]));
        assert_eq!(
            best,
            pictures.label(picture),
            "picture {picture}: {logits:?}"
        );
    }
}
