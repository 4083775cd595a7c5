use test_support::run_toml::{PhaseToml, RunToml};

use crate::config::{DecayedParameters, OptimizerConfig, RunConfig};

/// A run of one phase of 10 epochs with `optimizer`, `schedule` and further `keys`.
fn load(optimizer: &str, schedule: &str, keys: &str) -> Result<RunConfig, String> {
    let toml = RunToml {
        phases: &[PhaseToml {
            epochs: 10,
            optimizer,
            schedule,
            ..PhaseToml::default()
        }],
        tables: "",
        ..RunToml::default()
    };
    RunConfig::from_toml(&format!("{toml}\n{keys}")).map_err(|error| error.to_string())
}

const SGD: &str = "{ kind = \"sgd\" }";
const CONSTANT: &str = "{ kind = \"constant\", learning_rate = 0.1 }";

#[test]
fn options_survive_that_they_are_written_and_read_again() {
    let keys = "accumulate = 4\ngradient_clip_norm = 1\nema = { decay = 0.999, warm_up = true }\n\
                early_stopping = { patience = 3, min_delta = 0.001 }\nquantization_aware = true\n\
                [export]\nint8 = {}";
    let adamw = "{ kind = \"adamw\", betas = [0.9, 0.98], eps = 1e-6, weight_decay = 0.05, decay = \"all\" }";
    let decay_weights = "{ kind = \"sgd\", weight_decay = 1e-4, decay = \"weights\" }";
    for (optimizer, schedule) in [
        (
            adamw,
            "{ kind = \"cosine\", learning_rate = 0.1, warm_up_epochs = 0.5, warm_up_factor = 0.1 }",
        ),
        (
            decay_weights,
            "{ kind = \"step\", learning_rate = 0.1, step_size = 3, gamma = 0.5 }",
        ),
        (
            "{ kind = \"adamw\" }",
            "{ kind = \"multi_step\", learning_rate = 0.1, milestones = [3, 9] }",
        ),
    ] {
        let config = load(optimizer, schedule, keys).unwrap();
        let written = config.to_toml();
        assert_eq!(RunConfig::from_toml(&written).unwrap(), config, "{written}");
    }
}

#[test]
fn options_that_are_left_out_are_not_written() {
    // A run's digest and its checkpoints depend on what is written.
    let schedule = "{ kind = \"cosine\", learning_rate = 0.1 }";
    let written = load(SGD, schedule, "").unwrap().to_toml();
    for key in [
        "accumulate",
        "gradient_clip_norm",
        "quantization_aware",
        "ema",
        "early_stopping",
        "decay =",
        "warm_up",
    ] {
        let mut lines = written.lines();
        let found = lines.find(|line| line.starts_with(key) || line.contains(&format!(".{key}]")));
        assert_eq!(found, None, "{written}");
    }
}

#[test]
fn quantization_aware_phases_need_a_model_in_int8_and_come_last() {
    let aware = "quantization_aware = true\n";
    let second = PhaseToml::default().to_string();
    let int8 = "[export]\nint8 = {}";
    for keys in [
        format!("{aware}{second}{aware}{int8}"),
        format!("{second}{aware}{int8}"),
    ] {
        load(SGD, CONSTANT, &keys).unwrap();
    }
    for (keys, problem) in [
        (
            aware.to_owned(),
            "phases[0].quantization_aware = true: needs export.int8",
        ),
        (
            format!("{aware}{second}{int8}"),
            "phases[1].quantization_aware = false: must be true, as in phases[0]",
        ),
    ] {
        let error = load(SGD, CONSTANT, &keys).unwrap_err();
        assert!(error.contains(problem), "{problem} is not in: {error}");
    }
}

#[test]
fn adamw_has_the_defaults_of_pytorch_and_decays_the_weights() {
    let config = load("{ kind = \"adamw\" }", CONSTANT, "").unwrap();
    let expected = OptimizerConfig::AdamW {
        betas: [0.9, 0.999],
        eps: 1e-8,
        weight_decay: 0.01,
        decay: DecayedParameters::Weights,
    };
    assert_eq!(config.phases[0].optimizer, expected);
}

#[test]
fn every_wrong_value_is_named_with_what_is_allowed() {
    for (optimizer, problem) in [
        (
            "{ kind = \"adamw\", betas = [0.9, 1.0] }",
            "phases[0].optimizer.betas[1] = 1: must be 0 or more and below 1",
        ),
        (
            "{ kind = \"adamw\", eps = 0 }",
            "phases[0].optimizer.eps = 0: must be above 0",
        ),
        (
            "{ kind = \"adamw\", weight_decay = -1 }",
            "phases[0].optimizer.weight_decay = -1: must be 0 or more",
        ),
        ("{ kind = \"adamw\", momentum = 0.9 }", "momentum"),
        ("{ kind = \"sgd\", decay = \"biases\" }", "biases"),
    ] {
        let error = load(optimizer, CONSTANT, "").unwrap_err();
        assert!(error.contains(problem), "{problem} is not in: {error}");
    }
    for (schedule, problem) in [
        (
            "{ kind = \"cosine\", learning_rate = 0.1, warm_up_epochs = 10 }",
            "phases[0].schedule.warm_up_epochs = 10: must be 0 or more and fewer than the phase's epochs, 10",
        ),
        (
            "{ kind = \"cosine\", learning_rate = 0.1, warm_up_factor = 0 }",
            "phases[0].schedule.warm_up_factor = 0: must be above 0 and at most 1",
        ),
        (
            "{ kind = \"step\", learning_rate = 0.1, step_size = 0 }",
            "phases[0].schedule.step_size = 0: must be 1 or more",
        ),
        (
            "{ kind = \"multi_step\", learning_rate = 0.1, milestones = [3, 3] }",
            "phases[0].schedule.milestones = [3, 3]: must be in increasing order",
        ),
        (
            "{ kind = \"multi_step\", learning_rate = 0.1, milestones = [3, 10] }",
            "below the phase's epochs, 10",
        ),
        (
            "{ kind = \"multi_step\", learning_rate = 0.1, milestones = [3], gamma = 1.5 }",
            "phases[0].schedule.gamma = 1.5: must be above 0 and at most 1",
        ),
    ] {
        let error = load(SGD, schedule, "").unwrap_err();
        assert!(error.contains(problem), "{problem} is not in: {error}");
    }
    for (keys, problem) in [
        (
            "accumulate = 0",
            "phases[0].accumulate = 0: must be from 1 to 65536",
        ),
        (
            "gradient_clip_norm = 0",
            "phases[0].gradient_clip_norm = 0: must be above 0",
        ),
        (
            "ema = { decay = 1 }",
            "phases[0].ema.decay = 1: must be 0 or more and below 1",
        ),
        (
            "early_stopping = { patience = 0 }",
            "phases[0].early_stopping.patience = 0: must be 1 or more",
        ),
        (
            "early_stopping = { patience = 1, min_delta = -0.1 }",
            "phases[0].early_stopping.min_delta = -0.1: must be 0 or more and below 1",
        ),
    ] {
        let error = load(SGD, CONSTANT, keys).unwrap_err();
        assert!(error.contains(problem), "{problem} is not in: {error}");
    }
}
