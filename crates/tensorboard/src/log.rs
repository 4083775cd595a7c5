//! The log of a run that may be interrupted: a folder with one event file per process that worked on it.

use std::{
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use prost::Message;

use crate::{
    event::{Event, SessionLog, SessionStatus, Summary, Value, What},
    record::{messages, record},
};

/// The version of the format that TensorBoard expects.
const FILE_VERSION: &str = "brain.Event:2";
/// TensorBoard reads files with `tfevents` in their names, in the order of the names. TensorFlow has the time where
/// Retort has a number.
const PREFIX: &str = "events.out.tfevents.";
const SUFFIX: &str = ".retort";

/// Appends events to a folder.
///
/// Each record is written at once, so a process that is killed leaves at most one incomplete record, which readers
/// ignore.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    file: File,
    /// Bytes of complete records.
    length: u64,
}

impl EventLog {
    /// Opens the log in `folder`, which is created if it is missing, keeping the events up to step `keep`; without
    /// it, none. Returns the log and the last step that it has.
    ///
    /// The events of this process get a file of their own, so that a TensorBoard that shows the folder meanwhile reads
    /// them, too. It begins with the mark that makes TensorBoard forget later steps that it has seen before.
    ///
    /// # Errors
    /// I/O errors; the text names the file.
    pub fn open(folder: &Path, keep: Option<u64>) -> io::Result<(Self, Option<u64>)> {
        fs::create_dir_all(folder).map_err(|error| named(folder, &error))?;
        let mut last = None;
        let mut number = 0;
        for (number_of_file, path) in files(folder).map_err(|error| named(folder, &error))? {
            let kept = truncate(&path, keep).map_err(|error| named(&path, &error))?;
            last = last.max(kept);
            number = number_of_file + 1;
        }
        let path = folder.join(format!("{PREFIX}{number:010}{SUFFIX}"));
        let file = File::create(&path).map_err(|error| named(&path, &error))?;
        let mut log = Self {
            path,
            file,
            length: 0,
        };
        log.write(0, What::FileVersion(FILE_VERSION.to_owned()))?;
        let start = SessionLog {
            status: SessionStatus::Start.into(),
        };
        log.write(keep.map_or(0, |keep| keep + 1), What::SessionLog(start))?;
        Ok((log, last))
    }

    /// Appends the figures of `step`.
    ///
    /// # Errors
    /// I/O errors; the text names the file. The record is then not in the file.
    pub fn append(&mut self, step: u64, figures: Vec<Value>) -> io::Result<()> {
        self.write(step, What::Summary(Summary { value: figures }))
    }

    fn write(&mut self, step: u64, what: What) -> io::Result<()> {
        let event = Event {
            wall_time: now(),
            step: i64::try_from(step).unwrap_or(i64::MAX),
            what: Some(what),
        };
        let record = record(&event.encode_to_vec());
        self.write_whole(&record)
            .map_err(|error| named(&self.path, &error))?;
        self.length += record.len() as u64;
        Ok(())
    }

    fn write_whole(&mut self, record: &[u8]) -> io::Result<()> {
        let Err(error) = self.file.write_all(record) else {
            return Ok(());
        };
        // A full disk may have stored a part of the record.
        self.file.set_len(self.length)?;
        self.file.seek(SeekFrom::Start(self.length))?;
        Err(error)
    }
}

/// The files that logs in `folder` have written, by their numbers.
fn files(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            files.push((number, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Cuts the file at `path` off after step `keep`, or before a record that is incomplete or damaged, and removes it if
/// no figures remain. Returns the last step that remains.
fn truncate(path: &Path, keep: Option<u64>) -> io::Result<Option<u64>> {
    let bytes = fs::read(path)?;
    let mut last = None;
    let mut length = 0;
    for (end, message) in messages(&bytes) {
        let Ok(event) = Event::decode(message) else {
            break;
        };
        if let Some(What::Summary(_)) = event.what {
            let step = u64::try_from(event.step).ok();
            if step > keep {
                break;
            }
            last = step;
        }
        length = end;
    }
    if last.is_none() {
        fs::remove_file(path)?;
        return Ok(None);
    }
    let file = File::options().write(true).open(path)?;
    file.set_len(length as u64)?;
    Ok(last)
}

/// Seconds since 1970: readers show events by step or by time.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(log: &mut EventLog, steps: impl IntoIterator<Item = u64>) {
        for step in steps {
            let figure = Value::scalar("loss", 1.0 / step as f64);
            log.append(step, vec![figure]).unwrap();
        }
    }

    /// The steps of each file in `folder`, and where its process began.
    fn steps(folder: &Path) -> Vec<(i64, Vec<i64>)> {
        let of_file = |(_, path): (u64, PathBuf)| {
            let bytes = fs::read(path).unwrap();
            let events: Vec<Event> = messages(&bytes)
                .map(|(_, message)| Event::decode(message).unwrap())
                .collect();
            let version = What::FileVersion(FILE_VERSION.to_owned());
            assert_eq!(events[0].what, Some(version));
            assert!(matches!(events[1].what, Some(What::SessionLog(_))));
            let steps = events[2..].iter().map(|event| event.step);
            (events[1].step, steps.collect())
        };
        files(folder).unwrap().into_iter().map(of_file).collect()
    }

    #[test]
    fn a_resumed_log_has_every_step_once() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("tensorboard");
        let (mut log, last) = EventLog::open(&folder, None).unwrap();
        assert_eq!(last, None);
        append(&mut log, 1..=6);
        let (mut log, last) = EventLog::open(&folder, Some(4)).unwrap();
        assert_eq!(last, Some(4));
        append(&mut log, 5..=7);
        assert_eq!(steps(&folder), [(0, vec![1, 2, 3, 4]), (5, vec![5, 6, 7])]);
        // Nothing of the second process remains.
        let (mut log, last) = EventLog::open(&folder, Some(3)).unwrap();
        assert_eq!(last, Some(3));
        append(&mut log, [4]);
        assert_eq!(steps(&folder), [(0, vec![1, 2, 3]), (4, vec![4])]);
        let (_, last) = EventLog::open(&folder, None).unwrap();
        assert_eq!((last, steps(&folder)), (None, vec![(0, vec![])]));
    }

    #[test]
    fn a_record_that_is_cut_off_or_damaged_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let (mut log, _) = EventLog::open(folder.path(), None).unwrap();
        append(&mut log, 1..=3);
        let file = log.path.clone();
        let bytes = fs::read(&file).unwrap();
        let mut flipped = bytes.clone();
        flipped[bytes.len() - 6] ^= 1;
        for damaged in [&bytes[..bytes.len() - 1], &flipped] {
            fs::write(&file, damaged).unwrap();
            let (_, last) = EventLog::open(folder.path(), Some(9)).unwrap();
            assert_eq!(last, Some(2));
            let left = fs::read(&file).unwrap();
            assert!(bytes.starts_with(&left) && left.len() < bytes.len());
        }
    }

    #[test]
    fn files_of_other_programs_stay() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder
            .path()
            .join("events.out.tfevents.1700000000.host.1.0");
        fs::write(&other, "foreign").unwrap();
        EventLog::open(folder.path(), None).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"foreign");
    }
}
