//! Runs on pictures in files, augmented and mixed in every way, with a teacher whose input has another size than the
//! student's: the bytes of the student.

use std::{fs, path::PathBuf, process::Command, sync::LazyLock};

use image::{Rgb, RgbImage};
use test_support::{
    Process, Teacher, eventually,
    run_toml::{CROSS_ENTROPY, MOMENTUM, PhaseToml, RunToml, SOFT_CROSS_ENTROPY},
    write_artifact,
};

const TRAINER: &str = env!("CARGO_BIN_EXE_student-trainer");

static TEACHER: LazyLock<PathBuf> =
    LazyLock::new(|| test_support::built_beside(TRAINER, "teacher-service"));

const CLASSES: [&str; 3] = ["T-shirt", "Trouser", "Pullover"];
/// Training pictures of each class.
const PICTURES: u32 = 80;
const EPOCHS: usize = 6;
const VIEWS: usize = 2;
/// A network that takes tens of milliseconds per batch, so that a test can kill a run.
const TEACHER_NETWORK: &str =
    "input = [3, 40, 40]\nclasses = 3\npreset = \"cnn\"\nwidths = [32, 32]\nstrides = [1, 1]";

/// A folder with pictures, a teacher's artifact, a configuration, recordings and runs.
struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        for (split, pictures) in [("train", PICTURES), ("val", 4), ("test", 4)] {
            for (class, name) in CLASSES.iter().enumerate() {
                let folder = scene.path("pictures").join(split).join(name);
                fs::create_dir_all(&folder).unwrap();
                for number in 0..pictures {
                    let picture = picture(class as u32, number);
                    picture.save(folder.join(format!("{number}.png"))).unwrap();
                }
            }
        }
        write_artifact(&scene.path("teacher"), TEACHER_NETWORK, 1);
        // A folder's name holds no slash, unlike the first of the teacher's default names.
        let model = scene.path("teacher/model.toml");
        let text = fs::read_to_string(&model).unwrap();
        fs::write(&model, text.replace("T-shirt/top", CLASSES[0])).unwrap();
        fs::write(scene.path("run.toml"), scene.config()).unwrap();
        scene
    }

    fn config(&self) -> String {
        let tables = format!(
            "[data]\nformat = \"image-folder\"\npath = {:?}\nclass_names = {:?}\n\
             normalization = {{ mean = [0.5], std = [0.25] }}\n\
             [data.augmentation]\npad = 0\nrandom_resized_crop = {{ scale = [0.35, 1.0] }}\n\
             random_affine = {{ degrees = 10.0 }}\nrand_augment = {{ num_ops = 1 }}\n\
             color_jitter = {{ brightness = 0.2, hue = 0.1 }}\nrandom_erasing = {{ value = \"noise\" }}\n\
             mixup = {{ alpha = 1.0 }}\ncutmix = {{ alpha = 1.0 }}\n\
             [soft_targets]\nviews = {VIEWS}\nfolder = {:?}\n\
             [checkpoints]\nevery_steps = 3",
            self.path("pictures"),
            CLASSES,
            self.path("targets"),
        );
        let config = RunToml {
            keys: "threads = 1\nprecision = \"f32\"",
            network: "input = [1, 28, 28]\nclasses = 3\npreset = \"cnn\"\nwidths = [4, 8]",
            phases: &[
                PhaseToml {
                    epochs: EPOCHS,
                    batch_size: 32,
                    loss: SOFT_CROSS_ENTROPY,
                    optimizer: MOMENTUM,
                    schedule: "{ kind = \"one_cycle\", max_learning_rate = 0.05 }",
                    ..PhaseToml::default()
                },
                PhaseToml {
                    name: Some("fine_tune"),
                    loss: CROSS_ENTROPY,
                    schedule: "{ kind = \"constant\", learning_rate = 0.005 }",
                    ..PhaseToml::default()
                },
            ],
            tables: &tables,
        };
        config.to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn teacher(&self) -> Teacher {
        self.teacher_with(&[])
    }

    fn teacher_with(&self, settings: &[&str]) -> Teacher {
        let settings = [&["compute.precision=f32"][..], settings].concat();
        Teacher::start(&TEACHER, &self.path("teacher"), &settings)
    }

    /// A teacher with the pictures in the folder `name`.
    fn teacher_with_pictures(&self, name: &str) -> Teacher {
        self.teacher_with(&[
            &format!("data.path={}", self.path(name).display()),
            &format!("data.class_names={CLASSES:?}"),
        ])
    }

    /// Copies the pictures to the folder `name`.
    fn copy_pictures(&self, name: &str) {
        for split in ["train", "val", "test"] {
            for class in CLASSES {
                let from = self.path("pictures").join(split).join(class);
                let to = self.path(name).join(split).join(class);
                fs::create_dir_all(&to).unwrap();
                for picture in fs::read_dir(from).unwrap() {
                    let picture = picture.unwrap();
                    fs::copy(picture.path(), to.join(picture.file_name())).unwrap();
                }
            }
        }
    }

    /// Starts or resumes the run `name`.
    fn start(&self, name: &str, teachers: &[&Teacher], settings: &[&str]) -> Process {
        let endpoints: Vec<_> = teachers.iter().map(|it| it.grpc.to_string()).collect();
        let mut command = Command::new(TRAINER);
        command.arg("run").arg(self.path("run.toml"));
        command.arg("--output").arg(self.path(name));
        command.args(["--set", &format!("teacher.endpoints={endpoints:?}")]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        Process::start(command)
    }

    /// Runs or resumes `name` to its end; returns the ONNX file.
    fn finish(&self, name: &str, teachers: &[&Teacher], settings: &[&str]) -> Vec<u8> {
        self.finish_and_say(name, teachers, settings).0
    }

    /// The same, and what the run says.
    fn finish_and_say(
        &self,
        name: &str,
        teachers: &[&Teacher],
        settings: &[&str],
    ) -> (Vec<u8>, String) {
        let mut process = self.start(name, teachers, settings);
        let status = process.wait();
        let output = process.stderr();
        assert!(status.success(), "{output}");
        let model = fs::read(self.path(name).join("artifact/model.onnx")).unwrap();
        (model, output)
    }
}

/// A picture whose size and colors depend on its number, and its color also on its class.
fn picture(class: u32, number: u32) -> RgbImage {
    let (width, height) = (40 + number % 7 * 5, 40 + number % 5 * 8);
    RgbImage::from_fn(width, height, |x, y| {
        let texture = (x * (class + 1) + y * 3 + number * 11) % 128;
        let mut color = [texture as u8; 3];
        color[class as usize] += 100;
        Rgb(color)
    })
}

#[test]
fn live_recorded_and_killed_runs_on_mixed_pictures_give_the_same_student() {
    let scene = Scene::new();
    let teacher = scene.teacher();
    // The live run shows as many views as the recording has.
    let live = scene.finish("live", &[&teacher], &[]);
    let other = scene.finish("other", &[&teacher], &["seed=2"]);
    assert!(live != other, "another seed must give another student");

    let record = scene.finish("record", &[&teacher], &["soft_targets.mode=record"]);
    assert!(record == live, "recording changes the student");
    let answered = teacher.answered();
    let recorded = scene.finish("recorded", &[&teacher], &["soft_targets.mode=recorded"]);
    assert!(recorded == live, "replay changes the student");
    assert_eq!(teacher.answered(), answered, "replay asked the teacher");

    // Trainer and teacher are killed while the teacher has answered some batches, but not all.
    let batches = teacher.answered();
    let mut killed = scene.start("killed", &[&teacher], &[]);
    eventually("two answers", || {
        (teacher.answered() >= batches + 2.0).then_some(())
    });
    teacher.process.signal("KILL");
    killed.signal("KILL");
    assert!(!killed.wait().success());
    assert!(
        !scene.path("killed/artifact").exists(),
        "the run ended too early"
    );
    let teacher = scene.teacher();
    let resumed = scene.finish("killed", &[&teacher], &[]);
    assert!(resumed == live, "the interruption changes the student");
    assert!(
        teacher.answered() > 0.0,
        "the run had asked all answers before"
    );
}

#[test]
fn a_teacher_with_the_pictures_renders_them_as_the_trainer_does() {
    let scene = Scene::new();
    let pixels = scene.teacher();
    let (by_pixels, output) = scene.finish_and_say("pixels", &[&pixels], &[]);
    assert!(!output.contains("references"), "{output}");

    // The trainer's folder is another one than the teacher's, with the same files.
    scene.copy_pictures("copy");
    let teacher = scene.teacher_with_pictures("copy");
    let (by_reference, output) = scene.finish_and_say("references", &[&teacher], &[]);
    assert!(output.contains("it gets references"), "{output}");
    assert!(by_reference == by_pixels, "references change the student");
    let (other, _) = scene.finish_and_say("other", &[&teacher], &["seed=2"]);
    assert!(
        other != by_reference,
        "another seed must give another student"
    );
    let record = ["soft_targets.mode=record"];
    let (recorded, output) = scene.finish_and_say("record", &[&teacher], &record);
    assert!(output.contains("it gets references"), "{output}");
    assert!(recorded == by_pixels, "references change the recording");

    // A picture that the teacher has read before, but that it cannot read any more.
    let last = format!("copy/train/{}/{}.png", CLASSES[2], PICTURES - 1);
    fs::write(scene.path(&last), "changed").unwrap();
    let (fallen_back, output) = scene.finish_and_say("changed", &[&teacher], &[]);
    assert!(output.contains("gets pixels: "), "{output}");
    assert!(output.contains("changed since"), "{output}");
    assert!(fallen_back == by_pixels, "the fallback changes the student");
}
