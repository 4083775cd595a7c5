//! Invalid images.

use std::io::Cursor;

use image::{GrayImage, ImageFormat, Luma};
use proto::predict::v1::{ClassifyRequest, predictor_service_client::PredictorServiceClient};
use tonic::Code;
use tonic_types::StatusExt;

use super::Target;
use crate::support::MODEL;

fn png(width: u32, height: u32) -> Vec<u8> {
    let value = |x: u32, y: u32| Luma([(x * 31 + y * 17) as u8]);
    let image = GrayImage::from_fn(width, height, value);
    encode(&image, ImageFormat::Png)
}

/// An image that compresses to a thousandth of its pixels.
fn empty_png(width: u32, height: u32) -> Vec<u8> {
    encode(&GrayImage::new(width, height), ImageFormat::Png)
}

fn encode(image: &GrayImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image
        .write_to(&mut file, format)
        .expect("memory is written");
    file.into_inner()
}

/// A WebP file whose extended header claims 50,000 pixels on each side.
fn huge_webp() -> Vec<u8> {
    let side = &49_999_u32.to_le_bytes()[..3];
    let header = [&[0; 4][..], side, side].concat();
    let mut file = encode(&GrayImage::new(8, 8), ImageFormat::WebP);
    file.splice(12..12, [&b"VP8X\x0a\0\0\0"[..], &header].concat());
    let length = (file.len() - 8) as u32;
    file[4..8].copy_from_slice(&length.to_le_bytes());
    file
}

/// A tiny PNG file whose header claims a large size.
fn claims(width: u32, height: u32) -> Vec<u8> {
    let mut file = png(1, 1);
    file[16..20].copy_from_slice(&width.to_be_bytes());
    file[20..24].copy_from_slice(&height.to_be_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(&file[12..29]);
    file[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    file
}

#[tokio::test]
async fn each_is_named_and_other_requests_are_answered() {
    let mut target = Target::start().await;
    let mut client = PredictorServiceClient::new(target.service.channel("grpc").await);
    let request = |images: Vec<Vec<u8>>| ClassifyRequest {
        model_name: MODEL.to_owned(),
        images: images.into_iter().map(Into::into).collect(),
        ..ClassifyRequest::default()
    };
    let good = || png(8, 8);
    let cut = good()[..40].to_vec();
    let webp = encode(&GrayImage::new(8, 8), ImageFormat::WebP);
    let cut_webp = webp[..webp.len() - 1].to_vec();
    let mut damaged = good();
    damaged[50] ^= 0xff;
    let mut empty = request(vec![good()]);
    empty.model_name = "cats".to_owned();
    let cases = [
        (empty, Code::NotFound, "MODEL_NOT_FOUND", "no model `cats`"),
        (
            request(vec![]),
            Code::InvalidArgument,
            "INVALID_REQUEST",
            "images: 0 images",
        ),
        (
            request(vec![good(); 65]),
            Code::InvalidArgument,
            "INVALID_REQUEST",
            "images: 65 images",
        ),
        (
            request(vec![vec![]]),
            Code::InvalidArgument,
            "INVALID_IMAGE",
            "images[0]: is not a PNG, JPEG or WebP file",
        ),
        (
            request(vec![good(), b"GIF89a".to_vec()]),
            Code::InvalidArgument,
            "INVALID_IMAGE",
            "images[1]: is not a PNG, JPEG or WebP file",
        ),
        (
            request(vec![cut]),
            Code::InvalidArgument,
            "INVALID_IMAGE",
            "images[0]: cannot be decoded",
        ),
        (
            request(vec![damaged]),
            Code::InvalidArgument,
            "INVALID_IMAGE",
            "images[0]: cannot be decoded",
        ),
        (
            request(vec![cut_webp]),
            Code::InvalidArgument,
            "INVALID_IMAGE",
            "images[0]: cannot be decoded: it is truncated",
        ),
        (
            request(vec![huge_webp()]),
            Code::InvalidArgument,
            "INVALID_IMAGE",
            "images[0]: 50000x50000 pixels",
        ),
        (
            request(vec![claims(50_000, 50_000)]),
            Code::InvalidArgument,
            "INVALID_IMAGE",
            "images[0]: 50000x50000 pixels",
        ),
        (
            request(vec![claims(0x7fff_ffff, 0x7fff_ffff)]),
            Code::InvalidArgument,
            "INVALID_IMAGE",
            "images[0]: ",
        ),
        (
            request(vec![empty_png(2000, 2000)]),
            Code::InvalidArgument,
            "INVALID_IMAGE",
            "images[0]: 2000x2000 pixels",
        ),
        (
            request(vec![empty_png(1, 900_000)]),
            Code::InvalidArgument,
            "INVALID_IMAGE",
            "images[0]: 1x900000 pixels: the image is too long",
        ),
    ];
    for (request, code, reason, begins) in cases {
        let status = client.classify(request).await.expect_err(begins);
        assert_eq!(status.code(), code, "{begins}: {status}");
        assert!(status.message().starts_with(begins), "{begins}: {status}");
        let info = status
            .get_details_error_info()
            .expect("there is an ErrorInfo");
        assert_eq!(info.reason, reason);
    }
    let answer = client.classify(request(vec![good(), png(31, 17)])).await;
    let answer = answer.expect("it answers").into_inner();
    assert_eq!(answer.classifications.len(), 2);
    let sum: f64 = answer.classifications[1]
        .classes
        .iter()
        .map(|class| class.probability)
        .sum();
    assert!((sum - 1.0).abs() < 1e-9);
    target.is_well().await;
}
