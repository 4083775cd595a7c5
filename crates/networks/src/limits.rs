//! Limits on the size of a network. They permit every image classifier in common use, and they keep
//! all arithmetic on shapes and costs far from overflow for any spec.

/// Channels, features, classes, and the height and width of an image.
pub const DIMENSION: usize = 1 << 16;
/// Kernel, stride and padding.
pub const KERNEL: usize = 64;
/// Layers, including those inside residual blocks.
pub const LAYERS: usize = 1024;
/// Residual blocks inside residual blocks.
pub const NESTING: usize = 4;
/// Stages of a preset.
pub const STAGES: usize = 32;
/// Blocks or convolutions in one stage of a preset.
pub const DEPTH: usize = 256;
/// Multiplier of a preset's width or depth.
pub const MULTIPLIER: f64 = 32.0;
/// Values in one sample's input to or output from a layer.
pub const ACTIVATIONS: usize = 1 << 26;
/// Values in all weight tensors together (1 GiB of f32).
pub const WEIGHTS: u64 = 1 << 28;
