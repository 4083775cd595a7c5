//! Measures epochs over a folder of pictures, decoded each time and from a cache; bench/decode runs it.
//!
//!     epochs FOLDER SIDE CACHE
//!
//! Reads every picture of FOLDER, resized to SIDE × SIDE pixels, several times: after opening the data, again, while the
//! cache in the folder CACHE is written, and from the written cache. Prints a line for each with its name, pictures in a
//! second, and the memory of the process in MiB after a tenth of the pictures and at the end.

use std::{env, fs, path::PathBuf, process::ExitCode, sync::Arc, time::Instant};

use datasets::{CacheSpec, DataSpec, Source, cached, open, read_plain};

/// Pictures that are read at a time.
const BATCH: u32 = 64;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, side, cache] = &arguments[..] else {
        return Err("expected FOLDER SIDE CACHE".to_owned());
    };
    let side: usize = side.parse().map_err(|error| format!("SIDE: {error}"))?;
    let start = Instant::now();
    let opened = open(&DataSpec::new(folder), &|_| ()).map_err(|error| error.to_string())?;
    let source = opened.train;
    let memory = resident_mebibytes();
    report("open", source.len(), start, [memory, memory]);
    epoch("decoded", &source, side, Instant::now())?;

    let spec = CacheSpec {
        folder: PathBuf::from(cache),
        shorter_side: side,
        max_bytes: u64::MAX,
    };
    let cache = || cached(Arc::clone(&source), &spec, &|_| ()).map_err(|error| error.to_string());
    let start = Instant::now();
    epoch("cold cache", &cache()?, side, start)?;
    let start = Instant::now();
    epoch("warm cache", &cache()?, side, start)
}

/// Reads every picture. The time counts from `start`.
fn epoch(name: &str, source: &Arc<dyn Source>, side: usize, start: Instant) -> Result<(), String> {
    let samples: Vec<u32> = (0..source.len() as u32).collect();
    let mut memory = [0, 0];
    for (number, batch) in samples.chunks(BATCH as usize).enumerate() {
        let values = read_plain(&**source, batch, &[3, side, side]);
        values.map_err(|error| error.to_string())?;
        if number == samples.len() / BATCH as usize / 10 {
            memory[0] = resident_mebibytes();
        }
    }
    memory[1] = resident_mebibytes();
    report(name, samples.len(), start, memory);
    Ok(())
}

fn report(name: &str, pictures: usize, start: Instant, memory: [u64; 2]) {
    let rate = pictures as f64 / start.elapsed().as_secs_f64();
    println!("{name}\t{rate:.1}\t{}\t{}", memory[0], memory[1]);
}

/// The memory that the process uses, without files that the system caches; 0 if the system does not tell.
fn resident_mebibytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() / 1024
}
