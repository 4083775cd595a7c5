//! Measures how many pictures one thread decodes and resizes in a second; bench/decode runs it.
//!
//!     decode FOLDER SIDE [OUT]
//!
//! Reads the pictures of FOLDER, resizes each to SIDE × SIDE pixels and prints the number of pictures in a second.
//! With OUT, it also writes the pixels, [channels, height, width], to OUT/NAME.pixels.

use std::{env, fs, path::PathBuf, process::ExitCode, time::Instant};

use datasets::{Decoding, Geometry, Interpolation, PictureFormat, Renderer, decode};

fn main() -> ExitCode {
    match run() {
        Ok(rate) => {
            println!("{rate:.1}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<f64, String> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (folder, side, out) = match &arguments[..] {
        [folder, side] => (folder, side, None),
        [folder, side, out] => (folder, side, Some(PathBuf::from(out))),
        _ => return Err("expected FOLDER SIDE [OUT]".to_owned()),
    };
    let side: usize = side.parse().map_err(|error| format!("SIDE: {error}"))?;
    let entries = fs::read_dir(folder).map_err(|error| format!("{folder}: {error}"))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let options = Decoding::upright_on_white(100_000_000);
    let mut renderer = Renderer::default();
    let start = Instant::now();
    for path in &files {
        let named = |problem: String| format!("{}: {problem}", path.display());
        let bytes = fs::read(path).map_err(|error| named(error.to_string()))?;
        let format = PictureFormat::of(&bytes).ok_or_else(|| named("no picture".to_owned()))?;
        let picture = decode(&bytes, format, &options).map_err(|error| named(error.to_string()))?;
        let [height, width] = picture.size().map(|side| side as f64);
        let whole = Geometry {
            top: 0.0,
            left: 0.0,
            height,
            width,
            flip: false,
        };
        let mut pixels = vec![0; 3 * side * side];
        let shape = [3, side, side];
        renderer.render(&picture, whole, shape, Interpolation::Bilinear, &mut pixels);
        if let Some(out) = &out {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let target = out.join(format!("{name}.pixels"));
            fs::write(&target, &pixels)
                .map_err(|error| format!("{}: {error}", target.display()))?;
        }
    }
    Ok(files.len() as f64 / start.elapsed().as_secs_f64())
}
