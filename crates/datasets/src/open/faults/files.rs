//! Files of several formats, also with headers that say too much.

use std::sync::Arc;

use flate2::Crc;
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use parquet::{
    data_type::{ByteArray, ByteArrayType, Int64Type},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};

pub(super) fn png(width: u32, height: u32, value: u8) -> Vec<u8> {
    let mut file = Vec::new();
    let pixels = vec![value; (width * height * 3) as usize];
    PngEncoder::new(&mut file)
        .write_image(&pixels, width, height, ExtendedColorType::Rgb8)
        .unwrap();
    file
}

/// A PNG whose header, with its checksum, has 50,000 pixels on each side.
pub(super) fn huge_png() -> Vec<u8> {
    let mut file = png(3, 2, 1);
    file[16..24].copy_from_slice(&[0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50]);
    let mut checksum = Crc::new();
    checksum.update(&file[12..29]);
    file[29..33].copy_from_slice(&checksum.sum().to_be_bytes());
    file
}

/// A JPEG whose frame header (SOF0) has 50,000 pixels on each side.
pub(super) fn huge_jpeg() -> Vec<u8> {
    let mut file = include_bytes!("../../decode/fixtures/color-444.jpg").to_vec();
    let frame = file
        .windows(2)
        .position(|bytes| bytes == [0xff, 0xc0])
        .unwrap();
    // Marker, length and precision come before height and width.
    file[frame + 5..frame + 9].copy_from_slice(&[0xc3, 0x50, 0xc3, 0x50]);
    file
}

/// A WebP whose extended header (VP8X) has a canvas of 50,000 pixels on each side, which it stores minus 1.
pub(super) fn huge_webp() -> Vec<u8> {
    let mut file = include_bytes!("../../decode/fixtures/exif-6.webp").to_vec();
    let header = file.windows(4).position(|bytes| bytes == b"VP8X").unwrap();
    let side = &49_999_u32.to_le_bytes()[..3];
    file[header + 12..header + 18].copy_from_slice(&[side, side].concat());
    file
}

/// An IDX file of unsigned bytes.
pub(super) fn idx(sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, sizes.len() as u8];
    file.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    file.extend(values);
    file
}

pub(super) fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = (text.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], text.as_bytes(), data].concat()
}

pub(super) fn tar_of(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, &content[..])
            .unwrap();
    }
    archive.into_inner().unwrap()
}

/// A table of encoded pictures with labels from 0.
pub(super) fn parquet_of(pictures: &[&[u8]]) -> Vec<u8> {
    let schema =
        "message table { required group image { required binary bytes; } required int64 label; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut file = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut file, schema, Arc::new(WriterProperties::new())).unwrap();
    let mut rows = writer.next_row_group().unwrap();
    let bytes: Vec<ByteArray> = pictures
        .iter()
        .map(|picture| picture.to_vec().into())
        .collect();
    let mut column = rows.next_column().unwrap().unwrap();
    column
        .typed::<ByteArrayType>()
        .write_batch(&bytes, None, None)
        .unwrap();
    column.close().unwrap();
    let labels: Vec<i64> = (0..pictures.len() as i64).collect();
    let mut column = rows.next_column().unwrap().unwrap();
    column
        .typed::<Int64Type>()
        .write_batch(&labels, None, None)
        .unwrap();
    column.close().unwrap();
    rows.close().unwrap();
    writer.close().unwrap();
    file
}
