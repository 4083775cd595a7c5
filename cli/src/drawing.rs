//! Draws images and predictions with characters.

use std::{fmt::Write, io::IsTerminal};

use soft_targets::logits::argmax;

use crate::prediction::most_probable;

/// Characters for grey values, from dark to light.
const SHADES: [char; 5] = [' ', '░', '▒', '▓', '█'];
const LISTED_CLASSES: usize = 4;
const BAR_WIDTH: usize = 24;

/// How pixels are converted to characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Shade characters, one for two vertically adjacent pixels.
    Shades,
    /// Half blocks in 24 greys of the terminal's palette, which show every pixel.
    Greys,
}

/// The ink for standard output. Respects `NO_COLOR` (no-color.org).
pub(crate) fn screen_ink() -> Ink {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if std::io::stdout().is_terminal() && !no_color {
        Ink::Greys
    } else {
        Ink::Shades
    }
}

/// An image and a model's logits for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Example<'a> {
    /// The position in its split.
    pub index: usize,
    /// Values in the order [channels, height, width].
    pub pixels: &'a [u8],
    /// The image's [channels, height, width].
    pub shape: [usize; 3],
    /// The true class.
    pub label: usize,
    /// One logit per class.
    pub logits: &'a [f32],
    /// Names in the order of the logits.
    pub class_names: &'a [String],
}

/// Draws the image, and beside it the true class and the most probable classes.
pub(crate) fn draw_example(example: &Example<'_>, ink: Ink) -> String {
    let image = draw_image(example.pixels, example.shape, ink);
    let comments = comments(example);
    let first = image.len().saturating_sub(comments.len()) / 2;
    let mut text = String::new();
    for row in 0..image.len().max(first + comments.len()) {
        let left = image.get(row).map_or("", String::as_str);
        let right = row.checked_sub(first).and_then(|row| comments.get(row));
        let line = format!("  {left}   {}", right.map_or("", String::as_str));
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Converts an image to lines of characters, and colours to greys.
fn draw_image(pixels: &[u8], shape: [usize; 3], ink: Ink) -> Vec<String> {
    let [channels, height, width] = shape;
    let grey = |y: usize, x: usize| -> usize {
        let values = (0..channels).map(|channel| (channel * height + y) * width + x);
        let sum: usize = values
            .map(|index| pixels.get(index).copied().map_or(0, usize::from))
            .sum();
        sum / channels.max(1)
    };
    let lower = |y: usize, x: usize| if y + 1 < height { grey(y + 1, x) } else { 0 };
    let row = |y: usize| match ink {
        Ink::Shades => (0..width)
            .map(|x| SHADES[(grey(y, x) + lower(y, x)) / 2 * SHADES.len() / 256])
            .collect(),
        Ink::Greys => {
            let mut line = String::new();
            for x in 0..width {
                // Greys 232 (dark) to 255 (light) of the 256-colour palette.
                let [upper, lower] = [grey(y, x), lower(y, x)].map(|grey| 232 + grey * 24 / 256);
                // Writing to a String cannot fail.
                let _ = write!(line, "\x1b[38;5;{upper};48;5;{lower}m▀");
            }
            line + "\x1b[0m"
        }
    };
    (0..height).step_by(2).map(row).collect()
}

fn comments(example: &Example<'_>) -> Vec<String> {
    let name = |class: usize| example.class_names.get(class).map_or("?", String::as_str);
    let predicted = argmax(example.logits);
    let verdict = if predicted == example.label {
        "right"
    } else {
        "wrong"
    };
    let mut lines = vec![
        format!("image {}: {}", example.index, name(example.label)),
        format!("predicted: {} ({verdict})", name(predicted)),
        String::new(),
    ];
    for (class, probability) in most_probable(example.logits, LISTED_CLASSES) {
        // Cannot overflow: a probability is between 0 and 1.
        let bar = "█".repeat((probability * BAR_WIDTH as f64).round() as usize);
        let percent = 100.0 * probability;
        lines.push(format!("{percent:>5.1} %  {:<12} {bar}", name(class)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_rows_of_pixels_make_one_row_of_shades() {
        let pixels = [0, 255, 128, 0, 255, 127, 0, 255, 255];
        assert_eq!(draw_image(&pixels, [1, 3, 3], Ink::Shades), [" █▒", " ▒▒"]);
    }

    #[test]
    fn half_blocks_show_every_pixel_and_reset_the_colours() {
        let lines = draw_image(&[0, 255], [1, 2, 1], Ink::Greys);
        assert_eq!(lines, ["\x1b[38;5;232;48;5;255m▀\x1b[0m"]);
    }

    #[test]
    fn colours_become_greys() {
        let red_green_blue = [255, 0, 255];
        let lines = draw_image(&red_green_blue, [3, 1, 1], Ink::Greys);
        assert_eq!(lines, ["\x1b[38;5;247;48;5;232m▀\x1b[0m"]);
    }

    #[test]
    fn an_example_shows_truth_prediction_and_probabilities() {
        let class_names = ["Sandal", "Bag"].map(str::to_owned);
        let text = draw_example(
            &Example {
                index: 7,
                pixels: &[255; 4],
                shape: [1, 2, 2],
                label: 1,
                logits: &[3.0, 0.0],
                class_names: &class_names,
            },
            Ink::Shades,
        );
        for part in [
            "image 7: Bag",
            "predicted: Sandal (wrong)",
            "95.3 %  Sandal",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
