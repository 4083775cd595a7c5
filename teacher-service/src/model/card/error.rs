//! What is wrong with a card.

/// Why the card of a model is incomplete or wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// Nothing says what a property is.
    #[error(
        "the model does not say {what}; set model.preprocessing.{key} in the configuration, for example \
         {example}, or put the preprocessor_config.json or config.json of the model beside it"
    )]
    Missing {
        /// The missing key.
        key: &'static str,
        /// What it is.
        what: &'static str,
        /// An example in TOML.
        example: &'static str,
    },
    /// A property does not fit the model.
    #[error("model.preprocessing.{key}{}: {problem}", from.as_ref().map(|from| format!(" (from {from})")).unwrap_or_default())]
    Wrong {
        /// The key.
        key: &'static str,
        /// The file that it comes from; `None` for the configuration.
        from: Option<String>,
        /// What is wrong.
        problem: String,
    },
}

/// The error about a property that nothing says.
pub(super) fn missing(key: &'static str) -> CardError {
    let (what, example) = match key {
        "size" => ("the height and width of its images", "size = [224, 224]"),
        "scale" => (
            "whether its pixels are 0 to 1 (\"unit\") or 0 to 255 (\"byte\") before mean and std",
            "scale = \"unit\"",
        ),
        "mean" => (
            "the mean of each channel, or 0 if it subtracts none",
            "mean = [0.485, 0.456, 0.406]",
        ),
        "std" => (
            "the standard deviation of each channel, or 1 if it divides by none",
            "std = [0.229, 0.224, 0.225]",
        ),
        "channel_order" => ("the order of its channels", "channel_order = \"rgb\""),
        "layout" => ("which dimension holds the channels", "layout = \"nchw\""),
        "output" => (
            "whether its output is logits or probabilities",
            "output = \"logits\"",
        ),
        _ => (
            "the names of its classes",
            "class_names = [\"cat\", \"dog\"], or class_names_file = \"labels.txt\" with one name per line",
        ),
    };
    CardError::Missing { key, what, example }
}
