//! Runs that are killed at random steps, stopped by a signal, or left without teachers.

use std::{fs, time::Instant};

use test_support::{Process, Teacher, run_toml::MOMENTUM};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::scene::{
    EPOCHS, PHASES, Place, Result, STEPS, Scene, checkpoints, fixed_address, stderr,
};

/// Number of times that each phase is killed.
const KILLS: usize = 10;

/// Number of attempts: on a loaded machine, a phase may end before the interruption, and such an attempt
/// does not count.
const MOST_ROUNDS: usize = 10;

/// The generator of the steps at which runs are killed. `RETORT_TEST_SEED` sets another seed.
fn random() -> ChaCha8Rng {
    let seed = std::env::var("RETORT_TEST_SEED").map_or(1, |seed| seed.parse().unwrap());
    eprintln!("RETORT_TEST_SEED={seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

/// For every phase of `phases`, starts the run and interrupts it in the middle of the phase with `end`.
/// Returns false if an interruption was too late for its phase.
fn interrupt(
    scene: &Scene,
    name: &str,
    phases: std::ops::Range<usize>,
    random: &mut ChaCha8Rng,
    mut start: impl FnMut() -> Process,
    mut end: impl FnMut(&mut Process),
) -> bool {
    for phase in phases {
        // Leaves at least a quarter of the phase to do.
        let step = random.random_range(1..=EPOCHS * STEPS * 3 / 4);
        let aim = Place { phase, step };
        let mut process = start();
        scene.wait_for(name, aim, &mut process);
        end(&mut process);
        let place = scene.place(name).unwrap();
        let hit = scene.ended_within(name, phase);
        let remark = if hit { "" } else { ", too late" };
        let pid = process.id();
        eprintln!("{name}: pid {pid}, aimed at {aim:?}, ended after {place:?}{remark}");
        if !hit {
            return false;
        }
        newest_checkpoint_is_of(scene, name, phase);
    }
    true
}

/// Checks that the newest checkpoint is from the interrupted phase, or from the end of the phase before.
fn newest_checkpoint_is_of(scene: &Scene, name: &str, phase: usize) {
    let newest = checkpoints(&scene.path(name)).pop();
    let step = newest.map_or(0, |file| {
        let name = file.file_stem().unwrap().to_str().unwrap();
        name.trim_start_matches("step-").parse().unwrap()
    });
    let before = phase as u64 * EPOCHS * STEPS;
    assert!((before..before + EPOCHS * STEPS).contains(&step), "{step}");
}

fn kill(process: &mut Process) {
    process.signal("KILL");
    process.wait();
}

/// Repeats `attempt` with new names until it returns true.
pub fn until_hit(name: &str, mut attempt: impl FnMut(&str) -> bool) {
    for round in 0..MOST_ROUNDS {
        if attempt(&format!("{name}-{round}")) {
            return;
        }
    }
    panic!("{MOST_ROUNDS} times too late");
}

/// Kills a run `times` times in each phase and checks that it ends with the results of the `undisturbed` one.
fn survives_kills(
    scene: &Scene,
    teachers: &[&Teacher],
    settings: &[&str],
    times: usize,
    undisturbed: &Result,
) {
    let mut random = random();
    for kill_in_each_phase in 0..times {
        until_hit(&format!("killed-{kill_in_each_phase}"), |name| {
            let start = || Process::start(scene.command(name, teachers, settings));
            let hit = interrupt(scene, name, 0..PHASES.len(), &mut random, start, kill);
            if hit {
                assert_eq!(scene.finish(name, teachers, settings), *undisturbed);
                let verified = scene.verify(name);
                assert!(verified.status.success(), "{}", stderr(&verified));
            }
            hit
        });
    }
}

#[test]
fn a_run_killed_ten_times_in_each_phase_gives_the_student_of_an_undisturbed_run() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    let teachers = [&teacher];
    let undisturbed = scene.finish("undisturbed", &teachers, &[]);
    let other = scene.finish("other", &teachers, &["seed=2"]);
    assert_ne!(undisturbed, other, "another seed must give another student");

    survives_kills(&scene, &teachers, &[], KILLS, &undisturbed);
}

#[test]
fn a_killed_run_with_every_option_of_optimization_gives_the_student_of_an_undisturbed_run() {
    const OPTIONS: [&str; 5] = [
        "phases[0].gradient_clip_norm=1.0",
        "phases[0].ema={ decay = 0.99, warm_up = true }",
        "phases[1].ema={ decay = 0.9 }",
        "phases[1].schedule={ kind = \"cosine\", learning_rate = 0.05, warm_up_epochs = 0.5 }",
        "phases[1].early_stopping={ patience = 1 }",
    ];
    let scene = Scene::without_teacher();
    let plain = scene.finish("plain", &[], &[]);
    scene.replace(MOMENTUM, "{ kind = \"adamw\", weight_decay = 0.1 }");
    scene.replace(
        "{ kind = \"constant\", learning_rate = 0.005 }",
        "{ kind = \"step\", learning_rate = 0.005, step_size = 1 }",
    );
    let undisturbed = scene.finish("undisturbed", &[], &OPTIONS);
    assert_ne!(undisturbed, plain);
    survives_kills(&scene, &[], &OPTIONS, 1, &undisturbed);
}

#[test]
fn a_run_with_two_teachers_killed_ten_times_in_each_phase_gives_the_student_of_an_undisturbed_run()
{
    let scene = Scene::with_two_teachers();
    for _ in PHASES {
        scene.replace(MOMENTUM, "{ kind = \"adamw\", weight_decay = 0.1 }");
    }
    let (big, wide) = (scene.teacher(), scene.wide_teacher());
    let [big_pool, wide_pool] = Scene::both_teachers(&big, &wide);
    let options = [
        big_pool.as_str(),
        wide_pool.as_str(),
        "data.augmentation.mixup={ alpha = 0.2 }",
        "phases[0].ema={ decay = 0.99, warm_up = true }",
        "phases[1].ema={ decay = 0.9 }",
        "phases[2].ema={ decay = 0.5 }",
    ];
    let undisturbed = scene.finish("undisturbed", &[], &options);
    let other_weights = ["ensembles.both.teachers.big=0.6"];
    let other = scene.finish("other", &[], &[&options[..], &other_weights[..]].concat());
    assert_ne!(
        undisturbed, other,
        "other weights must give another student"
    );
    survives_kills(&scene, &[], &options, KILLS, &undisturbed);
}

#[test]
fn a_run_killed_in_quantization_aware_distillation_gives_the_student_of_an_undisturbed_run() {
    const OPTIONS: [&str; 3] = [
        "export.int8={ calibration_samples = 40 }",
        "phases[1].quantization_aware=true",
        "phases[2].quantization_aware=true",
    ];
    let scene = Scene::new();
    let teacher = scene.teacher();
    let teachers = [&teacher];
    let int8 = |name: &str| fs::read(scene.path(name).join("artifact/int8/model.onnx")).unwrap();
    let undisturbed = scene.finish("undisturbed", &teachers, &OPTIONS);
    let plain = scene.finish("plain", &teachers, &OPTIONS[..1]);
    assert_ne!(undisturbed, plain, "without it, the student is another one");
    assert!(int8("undisturbed") != int8("plain"));
    let mut random = random();
    until_hit("quantization-aware", |name| {
        let start = || Process::start(scene.command(name, &teachers, &OPTIONS));
        let hit = interrupt(&scene, name, 1..PHASES.len(), &mut random, start, kill);
        if hit {
            assert_eq!(scene.finish(name, &teachers, &OPTIONS), undisturbed);
            assert!(int8(name) == int8("undisturbed"));
            let verified = scene.verify(name);
            assert!(verified.status.success(), "{}", stderr(&verified));
        }
        hit
    });
}

#[test]
fn a_signal_leaves_a_checkpoint_of_the_last_step_and_the_chosen_exit_code() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    let teachers = [&teacher];
    let undisturbed = scene.finish("undisturbed", &teachers, &[]);
    let mut random = random();
    for (signal, code) in [("TERM", 0), ("HUP", 0), ("TERM", 75)] {
        until_hit(&format!("{signal}-{code}"), |name| {
            let start = || {
                let mut command = scene.command(name, &teachers, &[]);
                if code != 0 {
                    command.args(["--stopped-exit-code", &code.to_string()]);
                }
                Process::start(command)
            };
            let mut said = Vec::new();
            let stop = |process: &mut Process| {
                process.signal(signal);
                assert_eq!(process.wait().code(), Some(code), "{}", process.stderr());
                let newest = checkpoints(&scene.path(name)).pop().unwrap();
                said.push((process.stderr(), newest));
            };
            let hit = interrupt(&scene, name, 0..PHASES.len(), &mut random, start, stop);
            if hit {
                for (said, newest) in said {
                    let newest = newest.display();
                    let how = format!("start the same run again to resume from {newest}");
                    assert!(said.contains(&how), "{how} is not in: {said}");
                }
                assert_eq!(scene.finish(name, &teachers, &[]), undisturbed);
            }
            hit
        });
    }
}

#[test]
fn a_run_resumes_after_trainer_and_teachers_are_killed_at_once() {
    let scene = Scene::new();
    let addresses = [fixed_address(), fixed_address()];
    let start = || {
        addresses
            .each_ref()
            .map(|address| scene.teacher_at(address))
    };
    let mut random = random();
    let undisturbed = {
        let [first, second] = &start();
        scene.finish("undisturbed", &[first, second], &[])
    };
    until_hit("all-killed", |name| {
        let mut teachers = start();
        let hit = {
            let [first, second] = &teachers;
            let start_run = || scene.start(name, &[first, second]);
            let kill_all = |trainer: &mut Process| {
                for process in [&*trainer, &first.process, &second.process] {
                    process.signal("KILL");
                }
                trainer.wait();
            };
            interrupt(&scene, name, 1..2, &mut random, start_run, kill_all)
        };
        for teacher in &mut teachers {
            // The address is in use until the process is reaped.
            teacher.process.wait();
        }
        if hit {
            let [first, second] = &start();
            assert_eq!(scene.finish(name, &[first, second], &[]), undisturbed);
        }
        hit
    });
}

#[test]
fn a_run_without_teachers_fails_with_a_checkpoint_and_resumes_with_new_ones() {
    let scene = Scene::new();
    let undisturbed = scene.finish("undisturbed", &[&scene.teacher()], &[]);
    until_hit("left", |name| {
        let teacher = scene.teacher();
        let settings = ["teacher.wait_timeout_seconds=3"];
        let mut process = Process::start(scene.command(name, &[&teacher], &settings));
        let aim = Place { phase: 1, step: 1 };
        scene.wait_for(name, aim, &mut process);
        let gone = Instant::now();
        drop(teacher);
        if process.wait().success() {
            return false;
        }
        assert!(gone.elapsed().as_secs() < 30);
        let said = process.stderr();
        let newest = checkpoints(&scene.path(name)).pop().unwrap();
        for part in [
            "no answer for 3 s",
            "to resume from",
            newest.to_str().unwrap(),
        ] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
        assert!(scene.ended_within(name, 1));
        assert_eq!(scene.finish(name, &[&scene.teacher()], &[]), undisturbed);
        true
    });
}
