//! Captured samples: what a run reads of them, and their limits.

use std::{fs, io::Cursor, path::Path};

use datasets::{DataSpec, Sample, Shares, Source};
use image::{GrayImage, ImageFormat};
use proto::inference::ModelInferRequest;
use test_support::metric_in;

use crate::support::{
    Artifact, Connection, MODEL, Service, ServiceOptions, infer_request, normalized, publish,
    wait_until,
};

/// The normalization of `Artifact::new`.
const NORMALIZATION: (f32, f32) = (0.25, 0.5);
pub const PIXELS: usize = 64;

fn start(folder: &Path, settings: &[&str]) -> Service {
    let folder = format!("capture.folder={}", folder.display());
    Service::start(&ServiceOptions {
        set: &[&[folder.as_str()], settings].concat(),
        ..ServiceOptions::default()
    })
}

/// A request for the images in `pixels`, normalized as the model's clients do.
pub fn request(pixels: &[u8]) -> ModelInferRequest {
    let bytes: Vec<u8> = normalized(pixels, NORMALIZATION)
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    ModelInferRequest {
        raw_input_contents: vec![bytes.into()],
        ..infer_request(pixels.len() / PIXELS).0
    }
}

/// Images that differ in every pixel from one to the next.
pub fn images(first: u8, count: usize) -> Vec<u8> {
    let image = |at: usize| (0..PIXELS).map(move |pixel| first + at as u8 + 3 * pixel as u8 / 2);
    (0..count).flat_map(image).collect()
}

/// The samples that a run would read, one after another.
pub fn read(folder: &Path) -> Vec<u8> {
    let mut spec = DataSpec::new(folder.join(MODEL).join("1x8x8"));
    spec.shares = Shares {
        validation: 0.0,
        test: 0.0,
        seed: 0,
    };
    let data = datasets::open(&spec, &|_| ()).expect("it is a data set");
    let samples = (0..data.train.len() as u32).flat_map(|sample| pixels(&*data.train, sample));
    samples.collect()
}

fn pixels(source: &dyn Source, sample: u32) -> Vec<u8> {
    assert_eq!(source.label(sample), None);
    match source.read(sample).expect("it can be read") {
        Sample::Image(picture) => picture.pixels.to_vec(),
        Sample::Row(_) => panic!("the samples are images"),
    }
}

/// The value of a metric without labels.
pub fn metric(service: &Service, name: &str) -> f64 {
    metric_in(&service.metrics(), name)
}

#[tokio::test]
async fn a_data_set_has_the_pixels_of_tensors_and_of_pictures() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = ["capture.share=1.0", "capture.write_after_seconds=1"];
    let service = start(folder.path(), &settings);
    publish(&service, &Artifact::new(1)).await;
    let sent = images(0, 3);
    let response = service.infer(request(&sent)).await;
    response.expect("it answers");
    let picture = images(100, 1);
    let mut png = Cursor::new(Vec::new());
    GrayImage::from_raw(8, 8, picture.clone())
        .expect("it has 64 pixels")
        .write_to(&mut png, ImageFormat::Png)
        .expect("memory is written");
    let line = format!("POST /v1/models/{MODEL}:classify");
    let answer = Connection::to(&service.address("http")).call(&line, &[], &png.into_inner());
    assert_eq!(answer.status, 200);
    // A request that is refused has no samples.
    let mut refused = request(&sent);
    refused.raw_input_contents = vec![vec![0; 4].into()];
    service.infer(refused).await.expect_err("it is too short");

    wait_until(|| metric(&service, "retort_capture_samples") >= 4.0);
    assert_eq!(read(folder.path()), [sent, picture].concat());
    assert_eq!(metric(&service, "retort_capture_samples"), 4.0);
    assert_eq!(metric(&service, "retort_capture_dropped_samples"), 0.0);
}

#[tokio::test]
async fn only_the_share_is_captured_and_written_at_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = ["capture.share=0.25", "capture.write_after_seconds=3600"];
    // A service that was killed left it.
    let unfinished = folder.path().join(MODEL).join("1x8x8/.writing-x");
    fs::create_dir_all(unfinished.parent().expect("a folder")).expect("it is created");
    fs::write(&unfinished, "half a file").expect("it is written");
    let service = start(folder.path(), &settings);
    publish(&service, &Artifact::new(1)).await;
    for number in 0..8 {
        let response = service.infer(request(&images(number, 1))).await;
        response.expect("it answers");
    }
    assert_eq!(metric(&service, "retort_capture_samples"), 0.0);
    service.terminate();
    assert!(service.wait().success());
    assert!(!unfinished.exists());
    // Every fourth request.
    assert_eq!(read(folder.path()), [images(3, 1), images(7, 1)].concat());
}

#[tokio::test]
async fn the_files_stay_within_their_limit() {
    const LIMIT: u64 = 65_536;
    let folder = tempfile::tempdir().expect("a folder");
    let limit = format!("capture.max_bytes={LIMIT}");
    let settings = ["capture.share=1.0", &limit];
    let service = start(folder.path(), &settings);
    publish(&service, &Artifact::new(1)).await;
    let request = request(&images(0, 64));
    let bytes = |folder: &Path| -> u64 {
        let Ok(files) = fs::read_dir(folder.join(MODEL).join("1x8x8")) else {
            return 0;
        };
        // A file may be removed meanwhile.
        let files = files.filter_map(|file| file.ok()?.metadata().ok());
        files.map(|file| file.len()).sum()
    };
    // Four times the limit.
    for _ in 0..64 {
        let response = service.infer(request.clone()).await;
        response.expect("it answers");
        assert!(bytes(folder.path()) <= LIMIT + LIMIT / 4);
    }
    let done = || {
        metric(&service, "retort_capture_samples")
            + metric(&service, "retort_capture_dropped_samples")
    };
    wait_until(|| done() >= 64.0 * 64.0);
    let kept = bytes(folder.path());
    assert!(kept <= LIMIT && kept > LIMIT / 2, "{kept}");
    assert_eq!(read(folder.path()).len() % (64 * PIXELS), 0);
}

#[tokio::test]
async fn nothing_is_captured_unless_it_is_configured() {
    let folder = tempfile::tempdir().expect("a folder");
    let captured = folder.path().join("captured");
    let service = start(&captured, &[]);
    publish(&service, &Artifact::new(1)).await;
    let response = service.infer(request(&images(0, 1))).await;
    response.expect("it answers");
    service.terminate();
    assert!(service.wait().success());
    assert!(!captured.exists());
}
