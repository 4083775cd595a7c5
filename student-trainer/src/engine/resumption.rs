//! A phase resumes from any of its states with the same bits, whatever its options.

use std::{
    cell::RefCell,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use datasets::{
    Augmentation, InMemoryImages, Normalization, Sample, SampleError, SampleKind, Source, Subset,
};
use networks::{
    NetworkSpec, Weights,
    onnx::{self, Range, Ranges},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use torch_distributed::{Alone, Workers};
use torch_networks::{Device, Precision, TorchNetwork};

use super::{
    Checkpoints, EngineError, PhaseContext, PhaseState, PhaseSummary, in_process_workers::Meeting,
    set_threads, train_phase,
};
use crate::{
    config::PhaseConfig,
    events::EventSink,
    loader::{BatchPlan, BatchShare, TrainingSamples},
};

const EVERYTHING: &str = r#"
epochs = 6
batch_size = 4
accumulate = 5
gradient_clip_norm = 0.5
loss = { kind = "cross_entropy" }
optimizer = { kind = "adamw", weight_decay = 0.1 }
schedule = { kind = "cosine", learning_rate = 0.01, warm_up_epochs = 1.5 }
ema = { decay = 0.9, warm_up = true }
early_stopping = { patience = 2, min_delta = 0.9 }
"#;

const SGD: &str = r#"
epochs = 3
batch_size = 16
loss = { kind = "cross_entropy" }
optimizer = { kind = "sgd", momentum = 0.9, nesterov = true, weight_decay = 0.1, decay = "weights" }
schedule = { kind = "multi_step", learning_rate = 0.1, milestones = [1, 2] }
ema = { decay = 0.5 }
"#;

const PLAIN: &str = r#"
epochs = 2
batch_size = 16
loss = { kind = "cross_entropy" }
optimizer = { kind = "sgd", momentum = 0.9 }
schedule = { kind = "one_cycle", max_learning_rate = 0.1 }
"#;

const QUANTIZATION_AWARE: &str = r#"
epochs = 2
batch_size = 16
quantization_aware = true
loss = { kind = "cross_entropy" }
optimizer = { kind = "sgd", momentum = 0.9 }
schedule = { kind = "one_cycle", max_learning_rate = 0.1 }
ema = { decay = 0.5 }
early_stopping = { patience = 2 }
"#;

/// Samples for training.
const SAMPLES: usize = 46;

/// The states of a phase, each with the number of events before it.
type States = Vec<(PhaseState, usize)>;

struct Phase {
    result: Result<PhaseSummary, EngineError>,
    weights: Weights,
    states: States,
    /// Without fields that depend on time.
    events: Vec<Value>,
}

#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<Value>>>);

struct Kept {
    states: RefCell<States>,
    events: Events,
}

impl Checkpoints for Kept {
    fn every_steps(&self) -> u64 {
        1
    }

    fn keep(&self, mut state: PhaseState) -> io::Result<()> {
        state.progress.epoch_seconds = 0.0;
        state.progress.seconds = 0.0;
        let events = self.events.0.lock().unwrap().len();
        self.states.borrow_mut().push((state, events));
        Ok(())
    }
}

impl Events {
    fn sink(&self) -> EventSink {
        let Self(events) = self.clone();
        EventSink::new(move |event| {
            let mut event = serde_json::to_value(event).unwrap();
            for of_time in [
                "seconds",
                "samples_per_second",
                "teacher_wait_share",
                "data_wait_share",
            ] {
                event.as_object_mut().unwrap().remove(of_time);
            }
            events.lock().unwrap().push(event);
        })
    }
}

/// Fails once, at the read of this number.
#[derive(Debug)]
struct FailsOnce {
    source: Subset,
    reads_left: AtomicUsize,
}

impl Source for FailsOnce {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn kind(&self) -> SampleKind {
        self.source.kind()
    }

    fn class_names(&self) -> &[String] {
        self.source.class_names()
    }

    fn label(&self, sample: u32) -> Option<u32> {
        self.source.label(sample)
    }

    fn fingerprint(&self) -> &str {
        self.source.fingerprint()
    }

    fn read(&self, sample: u32) -> Result<Sample<'_>, SampleError> {
        if self.reads_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            return Err(SampleError {
                sample,
                place: "here".to_owned(),
                problem: "gone".to_owned(),
            });
        }
        self.source.read(sample)
    }

    fn decodes(&self) -> bool {
        false
    }
}

/// Samples for training and for validation.
fn samples() -> (Subset, Subset) {
    let count = SAMPLES as u32 + 14;
    let names = (0..3).map(|class| class.to_string()).collect();
    let pixels = (0..count * 36).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8);
    let labels = (0..count).map(|sample| Some(sample % 3)).collect();
    let images = InMemoryImages::new([1, 6, 6], names, pixels.collect(), labels);
    Subset::whole(Arc::new(images)).hold_out(14).unwrap()
}

/// The network, and the weights from which it starts.
fn start() -> (NetworkSpec, Weights) {
    let spec = "input = [1, 6, 6]\nclasses = 3\npreset = \"resnet\"\nwidths = [4]\ndropout = 0.2";
    let spec = NetworkSpec::from_toml(spec).unwrap();
    let initial = Weights::initial(&spec, 1).unwrap();
    (spec, initial)
}

/// A range for each activation of a network.
fn ranges(spec: &NetworkSpec, weights: &Weights) -> Ranges {
    let onnx = onnx::export(spec, weights).unwrap();
    let ranges = RefCell::new(Ranges::new());
    let range = Range {
        min: -2.0,
        max: 4.0,
    };
    onnx::quantize(&onnx, |name| {
        ranges.borrow_mut().insert(name.to_owned(), range);
        Some(range)
    })
    .unwrap();
    ranges.into_inner()
}

fn train(config: &PhaseConfig, source: &dyn Source, resumed: Option<&PhaseState>) -> Phase {
    train_as(&Alone, config, source, resumed)
}

/// Trains as one of several workers.
fn train_as(
    workers: &dyn Workers,
    config: &PhaseConfig,
    source: &dyn Source,
    resumed: Option<&PhaseState>,
) -> Phase {
    set_threads(1);
    let (spec, initial) = start();
    let network = TorchNetwork::new(&spec, &initial, Device::Cpu).unwrap();
    let (_, validation) = samples();
    let normalization = Normalization {
        mean: vec![0.5],
        std: vec![0.25],
    };
    let kept = Kept {
        states: RefCell::default(),
        events: Events::default(),
    };
    let calibrated = || config.quantization_aware.then(|| ranges(&spec, &initial));
    let ranges = resumed.map_or_else(calibrated, |state| state.ranges.clone());
    let context = PhaseContext {
        config,
        precision: Precision::F32,
        ranges: ranges.as_ref(),
        batches: BatchPlan {
            samples: TrainingSamples {
                source,
                input: spec.input,
                normalization: &normalization,
                augmentation: Augmentation {
                    pad: 1,
                    horizontal_flip: true,
                    ..Augmentation::default()
                },
            },
            seed: 3,
            phase: 1,
            epochs: config.epochs,
            batch_size: config.batch_size,
            soft_targets: None,
            views: None,
            share: BatchShare::of(workers),
        },
        workers,
        validation: Some(&validation),
        resumed,
        checkpoints: Some(&kept),
        events: &kept.events.sink(),
        cancel: &CancellationToken::new(),
    };
    let result = train_phase(&network, context);
    let events = kept.events.0.lock().unwrap().clone();
    Phase {
        result,
        weights: network.weights().unwrap(),
        states: kept.states.into_inner(),
        events,
    }
}

#[test]
fn the_rest_of_a_phase_is_the_same_from_every_state() {
    let (source, _) = samples();
    for config in [EVERYTHING, SGD, PLAIN, QUANTIZATION_AWARE] {
        let config: PhaseConfig = toml::from_str(config).unwrap();
        let whole = train(&config, &source, None);
        let summary = whole.result.unwrap();
        assert!(whole.states.len() >= 6);
        for (index, (state, events_before)) in whole.states.iter().enumerate() {
            let rest = train(&config, &source, Some(state));
            assert!(rest.weights == whole.weights, "state {index} of {config:?}");
            let states = rest.states.iter().map(|(state, _)| state);
            let expected = whole.states[index + 1..].iter().map(|(state, _)| state);
            assert!(states.eq(expected), "state {index} of {config:?}");
            assert_eq!(rest.events, whole.events[*events_before..]);
            let rest = rest.result.unwrap();
            assert_eq!(rest.consumed, summary.consumed);
            assert_eq!(
                (rest.epoch, rest.best_epoch),
                (summary.epoch, summary.best_epoch)
            );
        }
    }
}

#[test]
fn workers_in_threads_have_the_states_of_a_single_one_and_go_on_from_them_in_other_numbers() {
    let (source, _) = samples();
    let trained_by = |count: usize, config: &PhaseConfig, resumed: Option<&PhaseState>| {
        let meeting = Meeting::of(count);
        let workers = meeting.workers();
        let phases: Vec<Phase> = thread::scope(|scope| {
            let source = &source;
            let threads: Vec<_> = workers
                .iter()
                .map(|worker| scope.spawn(move || train_as(worker, config, source, resumed)))
                .collect();
            let phases = threads.into_iter().map(|thread| thread.join().unwrap());
            phases.collect()
        });
        for phase in &phases {
            assert!(phase.weights == phases[0].weights, "of {count}");
        }
        phases.into_iter().next().unwrap()
    };
    // 46 samples are 10 batches, the last smaller: the last step of an epoch has two batches.
    let everything = EVERYTHING.replace("batch_size = 4", "batch_size = 5");
    let fewer = everything.replace("accumulate = 5", "accumulate = 2");
    let everything = everything.replace("accumulate = 5", "accumulate = 4");
    let aware = QUANTIZATION_AWARE.replace("batch_size = 16", "batch_size = 4\naccumulate = 4");
    for config in [&everything, &aware] {
        let config: PhaseConfig = toml::from_str(config).unwrap();
        let alone = train(&config, &source, None);
        for count in [1, 2, 4] {
            let together = trained_by(count, &config, None);
            assert!(together.weights == alone.weights, "{count} of {config:?}");
            assert!(together.states == alone.states, "{count} of {config:?}");
            assert_eq!(together.events, alone.events);
            let (state, _) = &together.states[together.states.len() / 2];
            let rest = trained_by(4 / count, &config, Some(state));
            assert!(rest.weights == alone.weights, "{count} of {config:?}");
        }
    }
    let fewer: PhaseConfig = toml::from_str(&fewer).unwrap();
    let everything: PhaseConfig = toml::from_str(&everything).unwrap();
    assert!(train(&fewer, &source, None).weights != train(&everything, &source, None).weights);
}

#[test]
fn a_quantization_aware_phase_gives_other_weights_and_keeps_the_statistics_of_batch_norm() {
    let (source, _) = samples();
    let [plain, aware] = ["false", "true"].map(|aware| {
        let config = QUANTIZATION_AWARE.replace("true", aware);
        let config: PhaseConfig = toml::from_str(&config).unwrap();
        let phase = train(&config, &source, None);
        phase.result.unwrap();
        let (last, _) = phase.states.last().unwrap();
        assert_eq!(last.ranges.is_some(), config.quantization_aware);
        last.weights.clone()
    });
    let (_, initial) = start();
    let changed = |weights: &Weights, statistics: bool| {
        let mut tensors = weights.iter();
        tensors.any(|(name, tensor)| {
            name.contains(".running_") == statistics && initial.get(name) != Some(tensor)
        })
    };
    assert_ne!(plain, aware);
    assert!(changed(&plain, false) && changed(&plain, true));
    assert!(changed(&aware, false) && !changed(&aware, true));
}

#[test]
fn a_phase_that_stops_early_keeps_the_averaged_weights_of_its_best_epoch() {
    let (source, _) = samples();
    let config: PhaseConfig = toml::from_str(EVERYTHING).unwrap();
    let phase = train(&config, &source, None);
    // No epoch after the first improves by 0.9.
    let summary = phase.result.unwrap();
    assert_eq!(summary.best_epoch, Some(1));
    assert_eq!(summary.consumed.samples, 3 * SAMPLES as u64);
    let after = |epochs| {
        let mut states = phase.states.iter().map(|(state, _)| state);
        let ends = |state: &&PhaseState| (state.progress.epoch, state.progress.step) == (epochs, 0);
        states.find(ends).unwrap()
    };
    let best = after(1);
    assert_eq!(best.ema.as_ref(), Some(&phase.weights));
    assert_eq!(best.best, best.ema);
    assert_ne!(best.weights, phase.weights);
    assert_eq!(Some(summary.epoch), best.progress.last_epoch);
    assert!(after(3).progress.is_over(&config) && !after(2).progress.is_over(&config));
    let notice = phase.events.last().unwrap();
    let text = notice["text"].as_str().unwrap();
    assert!(text.contains("ends after epoch 3 of 6"), "{text}");
    // 46 samples are 12 batches, 3 steps of at most 5.
    assert_eq!(phase.events[0]["steps_per_epoch"], 3);
    for step in phase
        .events
        .iter()
        .filter(|event| event["event"] == "step_progress")
    {
        assert!(step["gradient_norm"].as_f64().unwrap() > 0.0, "{step}");
    }
}

#[test]
fn a_step_that_ends_between_its_batches_leaves_the_state_before_it() {
    let (source, _) = samples();
    let config: PhaseConfig = toml::from_str(EVERYTHING).unwrap();
    let whole = train(&config, &source, None);
    // The third batch of the second step of the second epoch.
    let reads = SAMPLES + (5 + 2) * config.batch_size + 1;
    let failing = FailsOnce {
        source: source.clone(),
        reads_left: AtomicUsize::new(reads),
    };
    let failed = train(&config, &failing, None);
    assert!(matches!(failed.result, Err(EngineError::Sample(_))));
    let (last, _) = failed.states.last().unwrap();
    assert_eq!((last.progress.epoch, last.progress.step), (1, 1));
    assert!(whole.states.iter().any(|(state, _)| state == last));
    assert_eq!(failed.weights, last.weights);
    let rest = train(&config, &failing, Some(last));
    assert!(rest.weights == whole.weights);
}
