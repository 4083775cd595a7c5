//! Small data sets, and the class names of runs.

use std::path::Path;

/// Returns the default class names of runs, continued as `class N` up to `classes` names.
pub fn class_names(classes: usize) -> Vec<String> {
    let defaults: toml::Table = include_str!("../../../configs/run.toml").parse().unwrap();
    let names = defaults["data"]["class_names"].as_array().unwrap();
    let names = names.iter().map(|name| name.as_str().unwrap().to_owned());
    let more = (names.len()..).map(|class| format!("class {class}"));
    names.chain(more).take(classes).collect()
}

/// Writes a training split of random images and labels of 10 classes, as plain IDX files.
pub fn write_idx(folder: &Path, samples: usize, [height, width]: [usize; 2]) {
    // A linear congruential generator (Knuth, MMIX): the same data every time.
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let header = |kind: u8, sizes: &[usize]| {
        let mut header = vec![0, 0, 8, kind];
        header.extend(sizes.iter().flat_map(|size| (*size as u32).to_be_bytes()));
        header
    };
    let mut images = header(3, &[samples, height, width]);
    images.extend((0..samples * height * width).map(|_| next()));
    let mut labels = header(1, &[samples]);
    labels.extend((0..samples).map(|_| next() % 10));
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("train-images-idx3-ubyte"), images).unwrap();
    std::fs::write(folder.join("train-labels-idx1-ubyte"), labels).unwrap();
}

/// Classes of the rows of [`write_table`].
pub const TABLE_CLASSES: [&str; 3] = ["small", "medium", "large"];
/// The center of each class. The values have very different scales, and the last one is constant.
pub const TABLE_CENTERS: [[f32; 4]; 3] = [
    [1000.0, 0.01, -3.0, 7.0],
    [1100.0, 0.01, 0.0, 7.0],
    [1000.0, 0.03, 3.0, 7.0],
];
/// The largest distance of a value from its center: less than half of the distance between two centers.
pub const TABLE_SPREAD: [f32; 4] = [40.0, 0.004, 1.0, 0.0];

/// Writes a CSV file of rows around the centers, sorted by class, with or without the labels.
pub fn write_table(file: &Path, rows_per_class: usize, with_labels: bool) {
    let mut csv = String::from("weight,width,charge,constant");
    csv += if with_labels { ",label\n" } else { "\n" };
    for (class, center) in TABLE_CLASSES.iter().zip(TABLE_CENTERS) {
        for row in 0..rows_per_class {
            let noise = |factor: usize| ((row * factor) % 17) as f32 / 8.0 - 1.0;
            let values =
                [0, 1, 2, 3].map(|i| center[i] + TABLE_SPREAD[i] * noise([5, 7, 11, 13][i]));
            csv += &values.map(|value| value.to_string()).join(",");
            csv += &if with_labels {
                format!(",{class}\n")
            } else {
                "\n".to_owned()
            };
        }
    }
    std::fs::write(file, csv).unwrap();
}
