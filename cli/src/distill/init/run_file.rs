//! A run's configuration with a comment for each key.

use toml::{Table, Value};

/// Comments by dotted key; those of tables stand above their headers.
const COMMENTS: [(&str, &str); 22] = [
    ("seed", "Seed of every random choice."),
    (
        "threads",
        "Threads that compute. Another number gives other bits.",
    ),
    (
        "data",
        "The data, as the trainer's machine sees it: if it lies elsewhere there, change the path. The trainer must\n\
         allow the path (allowed_folders).",
    ),
    (
        "data.class_names",
        "In label order; without labels, in the order of the teacher's logits.",
    ),
    (
        "data.validation_samples",
        "Training samples to hold out; 0: the data has samples for validation of its own.",
    ),
    (
        "data.ground",
        "Color that shows through transparent pixels, in training and in the served model.",
    ),
    (
        "data.normalization",
        "Mean and standard deviation of the training samples.",
    ),
    (
        "data.augmentation",
        "Random changes of training samples, new in every epoch.",
    ),
    (
        "data.format",
        "How the data is stored; \"auto\" detects it (docs/data.md).",
    ),
    (
        "network",
        "The student: a preset with a size dial (docs/networks.md). `retort student suggest` proposes sizes.",
    ),
    ("network.width", "Multiplier of the channels."),
    ("network.depth", "Multiplier of the blocks in each stage."),
    (
        "phases",
        "Phases of training, one after the other: first with the teacher's soft targets, then, if there are labels,\n\
         with those.",
    ),
    (
        "teacher",
        "The teacher services. A host name stands for all its addresses.",
    ),
    (
        "publish",
        "The inference service that gets the student at the end, and the model's name there.",
    ),
    (
        "export.int8",
        "Also writes artifact/int8, the model in int8.",
    ),
    ("publish.endpoint", "Its admin port."),
    ("publish.precision", "Which of the two models it gets."),
    (
        "publish.signing_key",
        "The private key that signs the student.",
    ),
    (
        "publish.gate",
        "Bounds that the student must meet, or it is not published.",
    ),
    ("network.classes", "Number of data.class_names."),
    (
        "network.input",
        "Channels, height and width, or the number of values in a row.",
    ),
];

/// The configuration as TOML. Keys of tables in tables stand on one line.
pub(super) fn commented(config: &Table) -> String {
    let mut text = String::from(
        "# A run for `retort run`, which checks every key; configs/run.toml explains all keys and their defaults.\n\n",
    );
    let is_table = |value: &Value| match value {
        Value::Array(items) => items.iter().any(Value::is_table),
        value => value.is_table(),
    };
    for (key, value) in config.iter().filter(|(_, value)| !is_table(value)) {
        write_key(&mut text, "", key, value);
    }
    for (key, value) in config.iter().filter(|(_, value)| is_table(value)) {
        text += "\n";
        write_comment(&mut text, key);
        match value {
            Value::Table(table) => write_table(&mut text, &format!("[{key}]"), key, table),
            Value::Array(items) => {
                let tables = items.iter().filter_map(Value::as_table);
                for table in tables {
                    write_table(&mut text, &format!("[[{key}]]"), key, table);
                }
            }
            _ => {}
        }
    }
    text
}

fn write_table(text: &mut String, header: &str, path: &str, table: &Table) {
    *text += &format!("{header}\n");
    for (key, value) in table {
        write_key(text, &format!("{path}."), key, value);
    }
}

/// `parent` ends with a dot, unless it is empty.
fn write_key(text: &mut String, parent: &str, key: &str, value: &Value) {
    write_comment(text, &format!("{parent}{key}"));
    *text += &format!("{key} = {value}\n");
}

fn write_comment(text: &mut String, key: &str) {
    let comment = COMMENTS.iter().find(|(of, _)| *of == key);
    for line in comment.into_iter().flat_map(|(_, comment)| comment.lines()) {
        *text += &format!("# {line}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_change_no_value() {
        let config: Table = toml::toml! {
            seed = 1
            [data]
            path = "/a b/\"c\""
            class_names = ["x", "y\nz"]
            normalization = { mean = [0.1], std = [1.0] }
            [network]
            input = [1, 28, 28]
            width = 0.5
            [[phases]]
            epochs = 2
            loss = { kind = "soft_cross_entropy", temperature = 2.0 }
            [[phases]]
            epochs = 1
            loss = { kind = "cross_entropy" }
            [teacher]
            endpoints = ["h:1"]
        };
        let text = commented(&config);
        assert_eq!(text.parse::<Table>().unwrap(), config, "{text}");
        for line in ["# Seed of every random choice.", "[network]", "[[phases]]"] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
