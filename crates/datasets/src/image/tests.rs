//! Golden values by scripts/golden/images.py.

use super::*;

const HEIGHT: usize = 7;
const WIDTH: usize = 9;

fn image(channels: usize) -> Image {
    let values = (0..HEIGHT * WIDTH * channels).map(|i| (i * 37 + i / 5 * 11) as u8);
    let interleaved: Vec<u8> = values.collect();
    Image::from_interleaved(&interleaved, [channels, HEIGHT, WIDTH])
}

#[test]
fn channels_are_taken_apart() {
    let image = Image::from_interleaved(&[1, 2, 3, 4, 5, 6], [3, 1, 2]);
    assert_eq!(image.pixels, [1, 4, 2, 5, 3, 6]);
}

#[test]
fn gray_is_pillows() {
    let gray = image(3).to_gray();
    assert_eq!(gray.shape, [1, HEIGHT, WIDTH]);
    assert_eq!(gray.pixels[..9], [30, 142, 84, 126, 211, 106, 189, 83, 202]);
    assert_eq!(gray.pixels[60..], [174, 107, 151]);
    assert_eq!(gray.clone().to_gray(), gray);
    // A gray pixel in colours is the same gray.
    let colours = image(1).to_rgb();
    assert_eq!(colours.shape, [3, HEIGHT, WIDTH]);
    assert_eq!(colours.to_gray(), image(1));
}

#[test]
fn other_sizes_are_pillows() {
    let cases: [(usize, usize, &[u8]); 3] = [
        (
            3,
            4,
            &[101, 137, 136, 123, 116, 132, 125, 124, 111, 132, 116, 130],
        ),
        (
            7,
            4,
            &[
                31, 106, 180, 72, 126, 198, 100, 119, 169, 66, 133, 216, 61, 143, 144, 54, 160,
                175, 80, 149, 98, 78, 171, 153, 98, 170, 72, 91,
            ],
        ),
        (
            3,
            13,
            &[
                78, 100, 116, 105, 127, 152, 178, 130, 125, 147, 111, 116, 136, 105, 118, 123, 109,
                133, 142, 128, 144, 125, 86, 113, 135, 149, 147, 110, 87, 112, 138, 147, 137, 102,
                102, 131, 156, 131, 92,
            ],
        ),
    ];
    for (height, width, expected) in cases {
        let scaled = image(1).resize(height, width);
        assert_eq!(scaled.shape, [1, height, width]);
        assert_eq!(scaled.pixels, expected, "{height}x{width}");
    }
    let large = image(1).resize(11, 13).pixels;
    assert_eq!(large[..10], [0, 20, 46, 71, 97, 122, 148, 181, 210, 216]);
    assert_eq!(large[133..], [142, 168, 193, 219, 67, 18, 51, 76, 102, 122]);
    let colours = image(3).resize(2, 3).pixels;
    assert_eq!(
        colours,
        [
            114, 129, 126, 133, 122, 139, 115, 125, 129, 124, 130, 115, 125, 126, 127, 125, 139,
            122
        ]
    );
    assert_eq!(image(3).resize(HEIGHT, WIDTH), image(3));
}

#[test]
fn the_middle_is_torchvisions() {
    let rows = |image: &Image| {
        image
            .pixels
            .chunks(image.shape[2])
            .map(<[u8]>::to_vec)
            .collect()
    };
    let whole: Vec<Vec<u8>> = rows(&image(1));
    // 7 - 4 = 3 rows too many: round(1.5) = 2; 9 - 4 = 5 columns: round(2.5) = 2.
    let middle = image(1).crop_center(4, 4);
    let expected: Vec<Vec<u8>> = whole[2..6].iter().map(|row| row[2..6].to_vec()).collect();
    assert_eq!(middle.shape, [1, 4, 4]);
    assert_eq!(rows(&middle), expected);
    assert_eq!(image(3).crop_center(HEIGHT, WIDTH), image(3));
}
