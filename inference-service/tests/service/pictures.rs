//! Pictures of any size, turned or transparent, and several in a call.

use std::{fs, io::Cursor};

use image::{DynamicImage, ImageBuffer, ImageFormat, Rgb, RgbImage, Rgba};
use networks::{NetworkSpec, Weights};
use proto::predict::v1::{
    ClassifyRequest, RankedClass, predictor_service_client::PredictorServiceClient,
};
use serde_json::{Value, json};

use crate::support::{Artifact, Connection, MODEL, Service, ServiceOptions, repository};

const CLASSES: usize = 4;
const LINE: &str = "POST /v1/models/digits:classify?top_k=4";

/// A service with a network for color images of 12 × 12 pixels.
async fn service() -> Service {
    service_with(json!({"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]})).await
}

/// A service with the same network and this preprocessing.
async fn service_with(preprocessing: Value) -> Service {
    let network = "input = [3, 12, 12]\nclasses = 4\npreset = \"cnn\"\nwidths = [4, 8]";
    let spec = NetworkSpec::from_toml(network).expect("the spec is valid");
    let weights = Weights::initial(&spec, 1).expect("the spec is valid");
    let onnx = networks::onnx::export(&spec, &weights).expect("the weights fit");
    let names = ["red", "green", "blue", "white"].map(str::to_owned);
    let images: Vec<u8> = (0..3 * 144).map(|i| i as u8).collect();
    let mut artifact = Artifact::of(onnx, [3, 12, 12], &names, (0.0, 1.0), &images);
    artifact.manifest["preprocessing"] = preprocessing;
    let service = Service::start(&ServiceOptions::default());
    let published = service.publish(artifact.upload()).await;
    published.expect("the model is published");
    service
}

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture
        .into()
        .write_to(&mut file, format)
        .expect("memory is written");
    file.into_inner()
}

fn picture(width: u32, height: u32, salt: u32) -> RgbImage {
    ImageBuffer::from_fn(width, height, |x, y| {
        Rgb([x * 11 + salt, y * 7, x * y + 3 * salt].map(|value| value as u8))
    })
}

/// Logits in class order.
fn logits(classes: &Value) -> Vec<f64> {
    let mut logits = vec![f64::NAN; CLASSES];
    for class in classes.as_array().expect("a list of classes") {
        let index = class["index"].as_u64().expect("a number") as usize;
        logits[index] = class["logit"].as_f64().expect("a number");
    }
    logits
}

fn classified(service: &Service, file: &[u8]) -> Vec<f64> {
    let answer = Connection::to(&service.address("http")).call(LINE, &[], file);
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    logits(&answer.json()["classes"])
}

#[tokio::test]
async fn turned_and_transparent_pictures_are_those_of_data_sets() {
    let service = service().await;
    // Pictures and the pixels that Pillow shows, from scripts/golden/pictures.py.
    let fixtures = repository().join("crates/datasets/src/decode/fixtures");
    let read = |name: &str| fs::read(fixtures.join(name)).expect("a fixture");
    let pixels = read("exif-6.jpg.pixels");
    let (shape, pixels) = pixels.split_at(12);
    let (shape, _) = shape.as_chunks();
    let side = |at: usize| u32::from_le_bytes(shape[at]);
    let upright = RgbImage::from_raw(side(2), side(1), pixels.to_vec()).expect("color pixels");
    let stored = image::imageops::rotate270(&upright);
    let [turned, upright, stored] = [
        read("exif-6.jpg"),
        encoded(upright, ImageFormat::Png),
        encoded(stored, ImageFormat::Png),
    ]
    .map(|file| classified(&service, &file));
    let distance = |a: &[f64], b: &[f64]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max)
    };
    let close = distance(&turned, &upright);
    // JPEG decoders differ by rounding.
    assert!(
        close * 10.0 < distance(&turned, &stored),
        "{turned:?} {upright:?} {stored:?}"
    );

    let clear = |x: u32, y: u32| (x + y).is_multiple_of(3);
    let colors = picture(17, 23, 5);
    let transparent = ImageBuffer::from_fn(17, 23, |x, y| {
        let Rgb([red, green, blue]) = *colors.get_pixel(x, y);
        Rgba([red, green, blue, if clear(x, y) { 0 } else { 255 }])
    });
    let transparent = DynamicImage::ImageRgba8(transparent);
    let on_white = ImageBuffer::from_fn(17, 23, |x, y| {
        if clear(x, y) {
            Rgb([255; 3])
        } else {
            *colors.get_pixel(x, y)
        }
    });
    let expected = classified(&service, &encoded(on_white, ImageFormat::Png));
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let file = encoded(transparent.clone(), format);
        assert_eq!(classified(&service, &file), expected, "{format:?}");
    }
}

#[tokio::test]
async fn a_manifest_may_name_another_ground() {
    let ground = [250_u8, 120, 10];
    let preprocessing = json!({"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "ground": ground});
    let service = service_with(preprocessing).await;
    let clear: DynamicImage = ImageBuffer::from_pixel(12, 12, Rgba([1_u8, 2, 3, 0])).into();
    let opaque: DynamicImage = ImageBuffer::from_pixel(12, 12, Rgb(ground)).into();
    assert_eq!(
        classified(&service, &encoded(clear, ImageFormat::WebP)),
        classified(&service, &encoded(opaque, ImageFormat::Png))
    );
    let described =
        Connection::to(&service.address("http")).call("GET /v2/models/digits", &[], b"");
    assert_eq!(
        described.json()["parameters"]["preprocessing"]["ground"],
        json!(ground)
    );
}

#[tokio::test]
async fn pictures_of_unequal_sizes_are_one_batch() {
    let service = service().await;
    let sizes = [(12, 12), (40, 30), (7, 60), (5, 5)];
    let files: Vec<Vec<u8>> = sizes
        .iter()
        .enumerate()
        .map(|(salt, (width, height))| {
            let formats = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP];
            let format = formats[salt % formats.len()];
            encoded(picture(*width, *height, salt as u32), format)
        })
        .collect();
    let alone: Vec<_> = files
        .iter()
        .map(|file| classified(&service, file))
        .collect();
    assert_ne!(alone[0], alone[1]);
    let close = |found: &[f64], expected: &[f64]| {
        found
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() < 1e-4)
    };

    let mut body = Vec::new();
    for file in &files {
        body.extend(b"--X\r\ncontent-disposition: form-data; name=\"image\"\r\n\r\n");
        body.extend(file);
        body.extend(b"\r\n");
    }
    body.extend(b"--X--\r\n");
    let multipart = [("content-type", "multipart/form-data; boundary=X")];
    let mut http = Connection::to(&service.address("http"));
    let answer = http.call(LINE, &multipart, &body);
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    let json = answer.json();
    let images = json["images"].as_array().expect("a list of images");
    assert_eq!(images.len(), files.len());
    for (image, alone) in images.iter().zip(&alone) {
        assert!(
            close(&logits(&image["classes"]), alone),
            "{image} {alone:?}"
        );
    }

    let mut predictor = PredictorServiceClient::new(service.channel("grpc").await);
    let request = |images: &[Vec<u8>]| ClassifyRequest {
        model_name: MODEL.to_owned(),
        images: images.iter().cloned().map(Into::into).collect(),
        top_k: CLASSES as u32,
        ..ClassifyRequest::default()
    };
    let answer = predictor
        .classify(request(&files))
        .await
        .expect("it answers");
    let by_index = |class: &RankedClass, logits: &mut Vec<f64>| {
        logits[class.index as usize] = f64::from(class.logit);
    };
    for (image, alone) in answer.into_inner().classifications.iter().zip(&alone) {
        let mut found = vec![f64::NAN; CLASSES];
        image
            .classes
            .iter()
            .for_each(|class| by_index(class, &mut found));
        assert!(close(&found, alone), "{found:?} {alone:?}");
    }

    // A damaged picture is named by its position.
    let broken = [files[0].clone(), b"no picture".to_vec()];
    let refused = predictor.classify(request(&broken)).await.unwrap_err();
    assert!(refused.message().contains("images[1]"), "{refused:?}");
    let truncated = http.call(LINE, &multipart, &body[..body.len() / 2]);
    assert_eq!(
        (truncated.status, truncated.refusal().1.as_str()),
        (400, "MALFORMED_BODY")
    );
}
