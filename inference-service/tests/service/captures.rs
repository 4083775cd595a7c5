//! Captured samples: what a run reads of them, and their limits.

use std::{fs, io::Cursor, path::Path};

use image::{GrayImage, ImageFormat};

use crate::support::{
    Artifact, Connection, MODEL, PIXELS, Service, ServiceOptions, distinct_images, image_request,
    publish, read_captured, wait_until,
};

fn start(folder: &Path, settings: &[&str]) -> Service {
    let folder = format!("capture.folder={}", folder.display());
    Service::start(&ServiceOptions {
        set: &[&[folder.as_str()], settings].concat(),
        ..ServiceOptions::default()
    })
}

#[tokio::test]
async fn a_data_set_has_the_pixels_of_tensors_and_of_pictures() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = ["capture.share=1.0", "capture.write_after_seconds=1"];
    let service = start(folder.path(), &settings);
    publish(&service, &Artifact::new(1)).await;
    let sent = distinct_images(0, 3);
    let response = service.infer(image_request(&sent)).await;
    response.expect("it answers");
    let picture = distinct_images(100, 1);
    let mut png = Cursor::new(Vec::new());
    GrayImage::from_raw(8, 8, picture.clone())
        .expect("it has 64 pixels")
        .write_to(&mut png, ImageFormat::Png)
        .expect("memory is written");
    let line = format!("POST /v1/models/{MODEL}:classify");
    let answer = Connection::to(&service.address("http")).call(&line, &[], &png.into_inner());
    assert_eq!(answer.status, 200);
    // A request that is refused has no samples.
    let mut refused = image_request(&sent);
    refused.raw_input_contents = vec![vec![0; 4].into()];
    service.infer(refused).await.expect_err("it is too short");

    wait_until(|| service.metric("retort_capture_samples") >= 4.0);
    assert_eq!(read_captured(folder.path()), [sent, picture].concat());
    assert_eq!(service.metric("retort_capture_samples"), 4.0);
    assert_eq!(service.metric("retort_capture_dropped_samples"), 0.0);
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
        let response = service
            .infer(image_request(&distinct_images(number, 1)))
            .await;
        response.expect("it answers");
    }
    assert_eq!(service.metric("retort_capture_samples"), 0.0);
    service.terminate();
    assert!(service.wait().success());
    assert!(!unfinished.exists());
    // Every fourth request.
    assert_eq!(
        read_captured(folder.path()),
        [distinct_images(3, 1), distinct_images(7, 1)].concat()
    );
}

#[tokio::test]
async fn the_files_stay_within_their_limit() {
    const LIMIT: u64 = 65_536;
    let folder = tempfile::tempdir().expect("a folder");
    let limit = format!("capture.max_bytes={LIMIT}");
    let settings = ["capture.share=1.0", &limit];
    let service = start(folder.path(), &settings);
    publish(&service, &Artifact::new(1)).await;
    let request = image_request(&distinct_images(0, 64));
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
        service.metric("retort_capture_samples") + service.metric("retort_capture_dropped_samples")
    };
    wait_until(|| done() >= 64.0 * 64.0);
    let kept = bytes(folder.path());
    assert!(kept <= LIMIT && kept > LIMIT / 2, "{kept}");
    assert_eq!(read_captured(folder.path()).len() % (64 * PIXELS), 0);
}

#[tokio::test]
async fn nothing_is_captured_unless_it_is_configured() {
    let folder = tempfile::tempdir().expect("a folder");
    let captured = folder.path().join("captured");
    let service = start(&captured, &[]);
    publish(&service, &Artifact::new(1)).await;
    let response = service.infer(image_request(&distinct_images(0, 1))).await;
    response.expect("it answers");
    service.terminate();
    assert!(service.wait().success());
    assert!(!captured.exists());
}
