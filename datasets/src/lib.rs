//! Labelled images: IDX files, augmentation, seeded sampling.
