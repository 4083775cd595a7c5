//! Saturation and hue.

use super::blend;
use crate::render::brightness;

/// Moves every pixel of `shape` = [channels, height, width] away from gray by `factor`.
pub(super) fn saturate(pixels: &mut [u8], shape: [usize; 3], factor: f32) {
    change(pixels, shape, |rgb| {
        let gray = brightness(rgb);
        rgb.map(|value| blend(gray, value, factor))
    });
}

/// Turns the hue of every pixel by a share of the color circle, -0.5 to 0.5.
pub(super) fn turn_hue(pixels: &mut [u8], shape: [usize; 3], turn: f64) {
    // torchvision cuts the fraction off and adds with overflow.
    let steps = (turn * 255.0) as i32 as u8;
    change(pixels, shape, |rgb| {
        let [hue, saturation, value] = to_hsv(rgb);
        to_rgb([hue.wrapping_add(steps), saturation, value])
    });
}

/// Changes every pixel of a picture in color.
fn change(
    pixels: &mut [u8],
    [channels, height, width]: [usize; 3],
    change: impl Fn([u8; 3]) -> [u8; 3],
) {
    if channels != 3 {
        return;
    }
    let (red, rest) = pixels.split_at_mut(height * width);
    let (green, blue) = rest.split_at_mut(height * width);
    for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
        [*red, *green, *blue] = change([*red, *green, *blue]);
    }
}

/// Hue, saturation and value, each 0 to 255, as by Pillow's `convert("HSV")` (`rgb2hsv` in `Convert.c`).
fn to_hsv(rgb: [u8; 3]) -> [u8; 3] {
    let [red, green, blue] = rgb;
    let (most, least) = (red.max(green).max(blue), red.min(green).min(blue));
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let saturation = range / f32::from(most);
    let [red_gap, green_gap, blue_gap] = rgb.map(|value| f32::from(most - value) / range);
    // Mixed precision, as in C.
    let hue = if red == most {
        blue_gap - green_gap
    } else if green == most {
        (2.0 + f64::from(red_gap) - f64::from(blue_gap)) as f32
    } else {
        (4.0 + f64::from(green_gap) - f64::from(red_gap)) as f32
    };
    let hue = ((f64::from(hue) / 6.0 + 1.0) % 1.0) as f32;
    let byte = |share: f32| (f64::from(share) * 255.0) as u8;
    [byte(hue), byte(saturation), most]
}

/// Pillow's `convert("RGB")` of hue, saturation and value (`hsv2rgb` in `Convert.c`).
fn to_rgb([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    // Mixed precision, as in C.
    let sixths = f64::from(hue) * 6.0 / 255.0;
    let sector = sixths.floor();
    let part = (sixths - sector) as f32;
    let saturation = (f64::from(saturation) / 255.0) as f32;
    let reduced = |share: f64| (f64::from(value) * (1.0 - share)).round() as u8;
    let low = reduced(f64::from(saturation));
    let falling = reduced(f64::from(saturation * part));
    let rising = reduced(f64::from(saturation) * (1.0 - f64::from(part)));
    match sector as u8 % 6 {
        0 => [value, rising, low],
        1 => [falling, value, low],
        2 => [low, value, rising],
        3 => [low, falling, value],
        4 => [rising, low, value],
        _ => [value, low, falling],
    }
}
