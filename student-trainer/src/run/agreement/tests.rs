use std::thread;

use common::compute::DeviceChoice;
use tch::Tensor;
use test_support::run_toml::{PhaseToml, RunToml};
use torch_distributed::Alone;

use super::*;
use crate::engine::in_process_workers::Meeting;

/// A worker among others whose bytes are given, in place of processes.
#[derive(Debug)]
struct Fixed {
    all: Vec<Vec<u8>>,
}

impl Workers for Fixed {
    fn rank(&self) -> usize {
        0
    }

    fn count(&self) -> usize {
        self.all.len()
    }

    fn gather(&self, _own: &Tensor, _all: &mut Tensor) -> Result<(), LostWorker> {
        unreachable!("nothing trains");
    }

    fn gather_bytes(&self, _own: &[u8]) -> Result<Vec<Vec<u8>>, LostWorker> {
        Ok(self.all.clone())
    }

    fn broadcast(&self, own: Vec<u8>) -> Result<Vec<u8>, LostWorker> {
        Ok(own)
    }
}

fn config(accumulate: usize, tables: &str, loss: &str) -> RunConfig {
    let toml = RunToml {
        phases: &[PhaseToml {
            loss,
            ..PhaseToml::default()
        }],
        tables,
        ..RunToml::default()
    };
    let accumulated = format!("epochs = 1\naccumulate = {accumulate}");
    RunConfig::from_toml(&toml.to_string().replace("epochs = 1", &accumulated)).unwrap()
}

#[test]
fn the_worker_that_differs_is_named_with_both_values() {
    let own = json!({"threads": 1, "numerics": "f32"});
    let workers = |others: &[Value]| Fixed {
        all: [&own]
            .into_iter()
            .chain(others)
            .map(|it| it.to_string().into_bytes())
            .collect(),
    };
    agree(&workers(&[own.clone(), own.clone()]), &own).unwrap();
    for (other, what) in [
        (
            json!({"threads": 2, "numerics": "f32"}),
            "threads = 2, but worker 0 has 1",
        ),
        (
            json!({"threads": 1}),
            "numerics = null, but worker 0 has \"f32\"",
        ),
        (
            json!({"threads": 1, "numerics": "f32", "x": 1}),
            "x = 1, but worker 0 has null",
        ),
    ] {
        let error = agree(&workers(&[own.clone(), other]), &own).unwrap_err();
        let expected = format!("worker 2 has {what}");
        assert!(error.to_string().contains(&expected), "{error}");
    }
    let garbled = Fixed {
        all: vec![own.to_string().into_bytes(), b"?".to_vec()],
    };
    let error = agree(&garbled, &own).unwrap_err().to_string();
    assert!(error.contains("worker 1 sent"), "{error}");
}

#[test]
fn all_workers_learn_whether_the_run_is_complete_for_the_first() {
    for state in [RunState::Unfinished, RunState::Complete] {
        assert_eq!(meet(&Alone, state).unwrap(), state);
        let meeting = Meeting::of(3);
        thread::scope(|scope| {
            for worker in meeting.workers() {
                let own = match worker.rank() {
                    0 => state,
                    _ => RunState::Unfinished,
                };
                scope.spawn(move || assert_eq!(meet(&worker, own).unwrap(), state));
            }
        });
    }
}

#[test]
fn keys_that_decide_the_bits_must_be_the_same_in_all_configurations() {
    let cross_entropy = test_support::run_toml::CROSS_ENTROPY;
    let first = config(2, "[data]\npath = \"here\"", cross_entropy);
    let elsewhere = config(2, "[data]\npath = \"there\"", cross_entropy);
    assert_eq!(difference(&first, &elsewhere), None);
    let on_another_gpu = RunConfig {
        device: DeviceChoice::Cuda(1),
        ..first.clone()
    };
    assert_eq!(difference(&first, &on_another_gpu), None);
    let other = config(4, "", cross_entropy);
    let (key, before, now) = difference(&first, &other).unwrap();
    assert_eq!((&*key, &*before, &*now), ("phases[0].accumulate", "2", "4"));
}

#[test]
fn all_workers_have_the_ranges_of_the_first_to_the_last_bit() {
    let ranges = |min: f32| Ranges::from([("relu".to_owned(), Range { min, max: 0.1 })]);
    // No decimal text of a few digits has this value.
    let first = ranges(-f32::from_bits(0x3dcc_cccf));
    assert_eq!(shared_ranges(&Alone, first.clone()).unwrap(), first);
    let meeting = Meeting::of(3);
    thread::scope(|scope| {
        for worker in meeting.workers() {
            let own = match worker.rank() {
                0 => first.clone(),
                1 => ranges(-7.0),
                _ => Ranges::new(),
            };
            let first = &first;
            scope.spawn(move || {
                assert_eq!(shared_ranges(&worker, own).unwrap(), *first);
            });
        }
    });
}

#[test]
fn two_workers_with_the_same_gpu_are_named() {
    let gpus = |uuids: &[&str]| -> Vec<Vec<u8>> {
        uuids.iter().map(|uuid| uuid.as_bytes().to_vec()).collect()
    };
    for different in [&["a", "b", "c"][..], &["", "", "a"]] {
        each_has_its_own(&gpus(different)).unwrap();
    }
    let error = each_has_its_own(&gpus(&["a", "b", "c", "b"])).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("workers 1 and 3 have the same GPU"),
        "{error}"
    );
}

#[test]
fn a_step_must_be_divisible_and_recording_is_for_one_worker() {
    let workers = |count: usize| Fixed {
        all: vec![Vec::new(); count],
    };
    let kd = "{ kind = \"kd\", temperature = 2, alpha = 0.5 }";
    let recorded = "[teacher]\nendpoints = [\"a:1\"]\n\
                    [soft_targets]\nmode = \"record\"\nfolder = \"targets\"\nviews = 1";
    let plain = config(4, "", test_support::run_toml::CROSS_ENTROPY);
    let records = config(4, recorded, kd);
    for count in [1, 2, 4] {
        check(&workers(count), &plain).unwrap();
    }
    check(&Alone, &records).unwrap();
    let error = check(&workers(3), &plain).unwrap_err().to_string();
    assert!(
        error.contains("phases[0].accumulate is 4, which 3 workers"),
        "{error}"
    );
    let error = check(&workers(2), &records).unwrap_err().to_string();
    assert!(error.contains("soft_targets.mode"), "{error}");
}
