//! Invalid specs: each error names the layer, the key, its value and the allowed values.

use networks::NetworkSpec;

fn error(text: &str) -> String {
    match NetworkSpec::from_toml(text) {
        Err(error) => error,
        Ok(spec) => spec.layers().expect_err(text).to_string(),
    }
}

fn with_layers(layers: &str) -> String {
    error(&format!(
        "input = [1, 28, 28]\nclasses = 10\nlayers = [{layers}]"
    ))
}

#[test]
fn a_wrong_layer_is_named() {
    for (layers, expected) in [
        (
            r#"{ type = "convv" }"#,
            "layers[0].type: unknown variant `convv`, expected one of `conv`, `depthwise_conv`",
        ),
        (
            r#"{ type = "relu" }, { type = "conv", channels = 8 }"#,
            "layers[1]: a `conv` layer needs the key `kernel`",
        ),
        (
            r#"{ type = "relu", rate = 0.5 }"#,
            "layers[0]: `rate` has no meaning in a `relu` layer; allowed: none but type",
        ),
        (
            r#"{ type = "conv", channels = 8, kernal = 3 }"#,
            "layers[0].kernal: unknown field `kernal`, expected one of",
        ),
        (
            r#"{ type = "conv", channels = "8", kernel = 3 }"#,
            r#"layers[0].channels: invalid type: string "8", expected usize"#,
        ),
        (
            r#"{ type = "conv", channels = -8, kernel = 3 }"#,
            "layers[0].channels: invalid value: integer `-8`, expected usize",
        ),
        (
            r#"{ type = "conv", channels = 8, kernel = 0 }"#,
            "layers[0].kernel = 0 is not allowed; allowed: 1 to 64",
        ),
        (
            r#"{ type = "conv", channels = 8, kernel = 3, padding = 3 }"#,
            "layers[0].padding = 3 is not allowed; allowed: 0 to 2",
        ),
        (
            r#"{ type = "conv", channels = 8, kernel = 3, padding = "valid" }"#,
            r#"layers[0].padding: invalid value: string "valid", expected a number or "same""#,
        ),
        (
            r#"{ type = "conv", channels = 8, kernel = 3, padding = -1 }"#,
            r#"layers[0].padding: invalid value: integer `-1`, expected a number or "same""#,
        ),
        (
            r#"{ type = "max_pool", kernel = 3, padding = "same" }"#,
            r#"layers[0].padding = "same" is not allowed; allowed: 0 to 1"#,
        ),
        (
            r#"{ type = "conv", channels = 8, kernel = 1 }, { type = "conv", channels = 6, kernel = 3, groups = 4 }"#,
            "layers[1] (conv): groups = 4 does not divide 8 input channels and 6 output channels",
        ),
        (
            r#"{ type = "conv", channels = 8, kernel = 1, groups = 0 }"#,
            "layers[0].groups = 0 is not allowed; allowed: 1 to 65536",
        ),
        (
            r#"{ type = "batch_norm", epsilon = 0.0 }"#,
            "layers[0].epsilon = 0 is not allowed; allowed: more than 0, at most 1",
        ),
        (
            r#"{ type = "squeeze_excitation", channels = 0 }"#,
            "layers[0].channels = 0 is not allowed; allowed: 1 to 65536",
        ),
        (
            r#"{ type = "squeeze_excitation", channels = 2, activation = "none" }"#,
            "layers[0]: a `squeeze_excitation` layer needs an activation; allowed: relu, relu6",
        ),
        (
            r#"{ type = "residual", body = [{ type = "relu" }], activation = "gelu" }"#,
            "layers[0].activation: unknown variant `gelu`, expected one of `relu`, `relu6`",
        ),
        (
            r#"{ type = "flatten" }, { type = "squeeze_excitation", channels = 2 }"#,
            "layers[1] (squeeze_excitation): expects an image, but its input is a vector",
        ),
        (
            r#"{ type = "dropout", rate = 1.0 }"#,
            "layers[0].rate = 1 is not allowed; allowed: 0 or more, less than 1",
        ),
        (
            r#"{ type = "residual", body = [] }"#,
            "layers[0].body = 0 is not allowed; allowed: 1 to 1024",
        ),
        (
            r#"{ type = "residual", body = [{ type = "relu" }, { type = "conv", channels = 99999999, kernel = 1 }] }"#,
            "layers[0].body[1].channels = 99999999 is not allowed; allowed: 1 to 65536",
        ),
        (
            r#"{ type = "conv", channels = 4, kernel = 31, padding = 0 }"#,
            "layers[0] (conv): the padded image is smaller than the 31×31 window (its input is [1, 28, 28])",
        ),
        (
            r#"{ type = "linear", features = 10 }"#,
            "layers[0] (linear): expects a vector, but its input is an image; put a flatten",
        ),
        (
            r#"{ type = "flatten" }, { type = "max_pool", kernel = 2 }"#,
            "layers[1] (max_pool): expects an image, but its input is a vector",
        ),
        (
            r#"{ type = "residual", shortcut = "identity", body = [{ type = "conv", channels = 8, kernel = 3 }] }"#,
            "layers[0] (residual): the body outputs [8, 28, 28], the shortcut [1, 28, 28]",
        ),
        (
            r#"{ type = "flatten" }"#,
            "the last layer outputs [784], but classes = 10 requires [10]",
        ),
        (
            "",
            "the last layer outputs [1, 28, 28], but classes = 10 requires [10]",
        ),
        (
            r#"{ type = "conv", channels = 65536, kernel = 8, padding = 7 }"#,
            "layers[0]: values in a sample's output exceed the limit of 67108864",
        ),
        (
            r#"{ type = "global_avg_pool" }, { type = "conv", channels = 65536, kernel = 1 }, { type = "conv", channels = 65536, kernel = 3 }"#,
            "layers[2]: weights exceed the limit of 268435456",
        ),
    ] {
        let found = with_layers(layers);
        assert!(
            found.starts_with(expected),
            "{layers}\n found: {found}\n wants: {expected}"
        );
        assert!(!found.contains('\n'), "{found}");
    }
}

#[test]
fn one_error_reports_all_wrong_values() {
    let found = with_layers(
        r#"{ type = "conv", channels = 0, kernel = 99 }, { type = "linear", features = 0 }"#,
    );
    for place in [
        "layers[0].channels = 0",
        "layers[0].kernel = 99",
        "layers[1].features = 0",
    ] {
        assert!(found.contains(place), "{found}");
    }
}

#[test]
fn deep_nesting_and_long_lists_are_rejected() {
    let nested = |depth| {
        format!(
            "{}{{ type = \"relu\" }}{}",
            "{ type = \"residual\", body = [".repeat(depth),
            "] }".repeat(depth)
        )
    };
    assert!(
        with_layers(&nested(5)).contains("nested blocks exceed the limit of 4"),
        "{}",
        with_layers(&nested(5))
    );
    assert!(!with_layers(&nested(5000)).is_empty());
    assert!(
        with_layers(&r#"{ type = "relu" },"#.repeat(1025))
            .contains("layers exceed the limit of 1024")
    );
}

#[test]
fn a_wrong_network_table_is_named() {
    for (text, expected) in [
        (
            "input = [1, 28, 28]\nclasses = 10",
            "needs either `preset` (resnet, cnn, mlp, mobilenet_v2, efficientnet_lite, ",
        ),
        (
            "input = [1, 28]\nclasses = 10\nlayers = []",
            "input: has 2 numbers; allowed: [channels, height, width] for images, [features] for vectors",
        ),
        (
            "input = [1, 28, 28]\nclasses = 10\npreset = \"vgg\"",
            "preset: unknown variant `vgg`, expected one of `resnet`, `cnn`, `mlp`",
        ),
        (
            "input = [1, 28, 28]\nclasses = 10\npreset = \"cnn\"",
            "a preset needs `widths`",
        ),
        (
            "input = [1, 28, 28]\nclasses = 10\nwidht = [1]",
            "widht: unknown field `widht`, expected one of",
        ),
        (
            "input = [1, 28, 28]\nclasses = 10\npreset = \"cnn\"\nwidths = [8]\nwidth = 1",
            "`width` has no meaning with preset `cnn`; allowed: input, classes, preset, widths, depths",
        ),
        (
            "input = [1, 28, 28]\nclasses = 10\npreset = \"resnet18\"\nwidth = 1",
            "`width` has no meaning with preset `resnet18`; allowed: input, classes, preset, dropout",
        ),
        (
            "input = [1, 28, 28]\nclasses = 10\npreset = \"resnet\"\nwidth = 0",
            "width = 0 is not allowed; allowed: more than 0, at most 32",
        ),
        (
            "input = [1, 28, 28]\nclasses = 10\npreset = \"mobilenet_v2\"\ndepth = 33.0",
            "depth = 33 is not allowed; allowed: more than 0, at most 32",
        ),
        (
            "input = [1, 28, 28]\nclasses = 10\npreset = \"mobilenet_v2\"\nconvention = \"keras\"",
            "convention: unknown variant `keras`, expected `torch` or `tensorflow`",
        ),
        (
            "input = [1, 28, 28]\nclasses = 10\npreset = \"vgg16_bn\"",
            "layers[43] (max_pool): the padded image is smaller than the 2×2 window",
        ),
        (
            "input = [784]\nclasses = 10\npreset = \"mobilenet_v2\"",
            "layers[0] (conv): expects an image, but its input is a vector",
        ),
        (
            "input = [0]\nclasses = 10\npreset = \"mlp\"\nwidth = 1",
            "input[0] = 0 is not allowed; allowed: 1 to 65536",
        ),
        (
            "input = [1, 28, 28]\nclasses = 10\npreset = \"mlp\"\nwidths = [8]\ndepths = [1]",
            "`depths` has no meaning with preset `mlp`; allowed: input, classes, preset, widths, dropout",
        ),
        (
            "input = [0, 28, 28]\nclasses = 0\nlayers = []",
            "input[0] = 0 is not allowed; allowed: 1 to 65536; classes = 0",
        ),
        (
            "input = [65536, 65536, 65536]\nclasses = 1\nlayers = []",
            "input: values in a sample exceed the limit of 67108864",
        ),
        (
            "input = [1, 28, 28]\nclasses = 10\npreset = \"cnn\"\nwidths = []",
            "widths = 0 numbers is not allowed; allowed: 1 to 32",
        ),
        (
            "input = [1, 28, 28]\nclasses = 10\npreset = \"resnet\"\nwidths = [8, 16]\ndepths = [1]",
            "depths = 1 numbers is not allowed; allowed: 2 numbers, one for each of `widths`",
        ),
        (
            "input = [1, 28, 28]\nclasses = 10\npreset = \"cnn\"\nwidths = [8]\nstrides = [0]",
            "strides[0] = 0 is not allowed; allowed: 1 to 64",
        ),
        (
            "input = [1, 28, 28]\nclasses = 10\npreset = \"mlp\"\nwidths = [8]\ndropout = 1.5",
            "dropout = 1.5 is not allowed",
        ),
    ] {
        let found = error(text);
        assert!(
            found.starts_with(expected),
            "{text}\n found: {found}\n wants: {expected}"
        );
    }
}
