//! `checkpoints/` of a run folder: finds checkpoints, and decides which ones to keep.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use networks::NetworkSpec;
use tracing::warn;

use super::checkpoint::{Checkpoint, CheckpointError};
use crate::config::CheckpointConfig;

const PREFIX: &str = "step-";
const SUFFIX: &str = ".safetensors";

/// The checkpoints of one run.
#[derive(Debug)]
pub(super) struct CheckpointFolder {
    folder: PathBuf,
    config: CheckpointConfig,
    /// Usable ones, oldest first.
    entries: Vec<Entry>,
}

/// The checkpoints in a folder.
pub(super) struct FoundCheckpoints {
    pub(super) folder: CheckpointFolder,
    /// The newest that can be used.
    pub(super) newest: Option<Checkpoint>,
    /// Problems of newer checkpoints; each message names its file.
    pub(super) problems: Vec<String>,
}

/// Why a run cannot resume from the checkpoints in its folder.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointsError {
    /// There are checkpoints, but none can be used.
    #[error(
        "no checkpoint in {} can be used ({problem}); put an intact one there, or remove them and \
         the run starts from the beginning",
        folder.display()
    )]
    NoneUsable {
        /// The folder.
        folder: PathBuf,
        /// The problem of the newest checkpoint.
        problem: String,
    },
    /// The folder cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    /// Optimizer steps over all phases.
    step: u64,
    file: PathBuf,
    score: Option<Score>,
}

/// How good the weights at the end of an epoch are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Score {
    ValidationAccuracy(f64),
    /// Comparable within a phase only: other phases minimize other functions.
    TrainLoss {
        phase: usize,
        loss: f64,
    },
}

impl CheckpointFolder {
    /// Reads all checkpoints in `folder`, which need not exist.
    ///
    /// # Errors
    /// See [`CheckpointsError`].
    pub(super) fn open(
        folder: PathBuf,
        config: CheckpointConfig,
        network: &NetworkSpec,
    ) -> Result<FoundCheckpoints, CheckpointsError> {
        let mut entries = Vec::new();
        let mut newest = None;
        let mut problems = Vec::new();
        for (step, file) in files(&folder)? {
            match Checkpoint::read(&file, network) {
                Ok(checkpoint) => {
                    entries.push(Entry::of(step, file, &checkpoint));
                    newest = Some(checkpoint);
                    problems.clear();
                }
                Err(error) => problems.push(format!("{}: {error}", file.display())),
            }
        }
        if newest.is_none()
            && let Some(problem) = problems.pop()
        {
            return Err(CheckpointsError::NoneUsable { folder, problem });
        }
        Ok(FoundCheckpoints {
            folder: Self {
                folder,
                config,
                entries,
            },
            newest,
            problems,
        })
    }

    /// Writes `checkpoint`, then removes those that need not be kept.
    ///
    /// # Errors
    /// If it cannot be written; the text names the file. All others stay.
    pub(super) fn keep(&mut self, checkpoint: &Checkpoint) -> io::Result<()> {
        let step = checkpoint.run.step;
        let file = self.folder.join(file_name(step));
        checkpoint.write(&file).map_err(|error| match error {
            CheckpointError::Io(error) => error,
            error => io::Error::other(format!("{}: {error}", file.display())),
        })?;
        self.entries.retain(|entry| entry.step != step);
        self.entries.push(Entry::of(step, file, checkpoint));
        self.remove_surplus();
        Ok(())
    }

    /// The file to resume from.
    pub(super) fn newest(&self) -> Option<&Path> {
        self.entries.last().map(|entry| &*entry.file)
    }

    fn remove_surplus(&mut self) {
        let kept = kept(&self.entries, self.config);
        let surplus = self
            .entries
            .iter()
            .filter(|entry| !kept.contains(&entry.step));
        for entry in surplus {
            if let Err(error) = fs::remove_file(&entry.file)
                && error.kind() != io::ErrorKind::NotFound
            {
                // An old checkpoint only takes space, because a run resumes from the newest.
                warn!(file = %entry.file.display(), %error, "cannot remove an old checkpoint");
            }
        }
        self.entries.retain(|entry| kept.contains(&entry.step));
    }
}

impl Entry {
    fn of(step: u64, file: PathBuf, checkpoint: &Checkpoint) -> Self {
        let progress = &checkpoint.phase.progress;
        let at_epochs_end = progress.last_epoch.filter(|_| progress.step == 0);
        let score = at_epochs_end.map(|epoch| match epoch.validation_accuracy {
            Some(accuracy) => Score::ValidationAccuracy(accuracy),
            None => Score::TrainLoss {
                phase: checkpoint.run.phase,
                loss: epoch.train_loss,
            },
        });
        Self { step, file, score }
    }

    /// Higher is better; `None` if it is not comparable in `phase`.
    fn rank(&self, phase: usize) -> Option<f64> {
        match self.score? {
            Score::ValidationAccuracy(accuracy) => Some(accuracy),
            Score::TrainLoss { phase: own, loss } => (own == phase).then_some(-loss),
        }
    }

    fn phase(&self) -> Option<usize> {
        match self.score? {
            Score::ValidationAccuracy(_) => None,
            Score::TrainLoss { phase, .. } => Some(phase),
        }
    }
}

/// Steps of the entries to keep: the last and the best ones; of equally good ones, the newer.
fn kept(entries: &[Entry], config: CheckpointConfig) -> Vec<u64> {
    let newest_phase = entries.iter().filter_map(Entry::phase).max();
    let mut ranked: Vec<(f64, u64)> = entries
        .iter()
        .filter_map(|entry| Some((entry.rank(newest_phase.unwrap_or_default())?, entry.step)))
        .collect();
    ranked.sort_by(|(rank, step), (other, newer)| other.total_cmp(rank).then(newer.cmp(step)));
    let best = ranked.iter().take(config.keep_best).map(|(_, step)| *step);
    let last = entries.iter().rev().take(config.keep_last);
    best.chain(last.map(|entry| entry.step)).collect()
}

/// Whether there is a checkpoint in `folder`, usable or not.
pub(super) fn are_in(folder: &Path) -> io::Result<bool> {
    Ok(!files(folder)?.is_empty())
}

fn file_name(step: u64) -> String {
    format!("{PREFIX}{step:010}{SUFFIX}")
}

/// Checkpoint files by step, in order. Ignores other files.
fn files(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        let digits = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_suffix(SUFFIX));
        // Each checkpoint has one name; a copy under another name is ignored.
        let step = digits.and_then(|digits| digits.parse().ok());
        if let Some(step) = step.filter(|step| name == file_name(*step)) {
            files.push((step, entry.path()));
        }
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::{
        super::checkpoint::tests::{checkpoint, network},
        *,
    };

    const CONFIG: CheckpointConfig = CheckpointConfig {
        every_steps: 0,
        keep_last: 2,
        keep_best: 1,
    };

    fn open(folder: &Path) -> FoundCheckpoints {
        CheckpointFolder::open(folder.to_owned(), CONFIG, &network()).unwrap()
    }

    fn steps(folder: &Path) -> Vec<u64> {
        let files = files(folder).unwrap();
        files.into_iter().map(|(step, _)| step).collect()
    }

    #[test]
    fn the_last_and_the_best_are_kept_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let found = open(folder.path());
        assert!(found.newest.is_none());
        let mut checkpoints = found.folder;
        let scores = [None, Some(0.5), Some(0.7), Some(0.6), None, Some(0.7), None];
        let expected: [&[u64]; 7] = [
            &[1],
            &[1, 2],
            &[2, 3],
            &[3, 4],
            &[3, 4, 5],
            &[5, 6],
            &[6, 7],
        ];
        for (step, (score, expected)) in (1..).zip(scores.into_iter().zip(expected)) {
            checkpoints.keep(&checkpoint(step, score)).unwrap();
            assert_eq!(steps(folder.path()), expected);
            let reopened = open(folder.path());
            assert_eq!(reopened.newest, Some(checkpoint(step, score)));
            assert_eq!(reopened.problems, Vec::<String>::new());
            checkpoints = reopened.folder;
        }
    }

    #[test]
    fn losses_compare_within_a_phase_alone() {
        let entry = |step, phase, loss| Entry {
            step,
            file: PathBuf::new(),
            score: Some(Score::TrainLoss { phase, loss }),
        };
        let config = CheckpointConfig {
            keep_last: 1,
            ..CONFIG
        };
        let entries = [entry(1, 0, 0.1), entry(2, 1, 5.0), entry(3, 1, 6.0)];
        assert_eq!(kept(&entries, config), [2, 3]);
        assert_eq!(kept(&entries[..1], config), [1, 1]);
    }

    #[test]
    fn a_damaged_checkpoint_is_reported_and_the_one_before_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let mut checkpoints = open(folder.path()).folder;
        for step in [1, 2] {
            checkpoints.keep(&checkpoint(step, None)).unwrap();
        }
        let damage = |step: u64| {
            let file = folder.path().join(format!("step-{step:010}.safetensors"));
            let mut bytes = fs::read(&file).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(file, bytes).unwrap();
        };
        damage(2);
        let mut reopened = open(folder.path());
        assert_eq!(reopened.newest, Some(checkpoint(1, None)));
        let problems = reopened.problems;
        assert!(problems[0].contains("step-0000000002"), "{problems:?}");
        reopened.folder.keep(&checkpoint(2, None)).unwrap();
        assert_eq!(open(folder.path()).newest, Some(checkpoint(2, None)));

        // Files whose names only look like newer checkpoints, and a link that leads nowhere.
        let path = |name: &str| folder.path().join(name);
        fs::copy(
            path("step-0000000001.safetensors"),
            path("step-3.safetensors"),
        )
        .unwrap();
        fs::copy(
            path("step-0000000001.safetensors"),
            path("step-+000000004.safetensors"),
        )
        .unwrap();
        symlink("nowhere", path("step-0000000005.safetensors")).unwrap();
        fs::create_dir(path("step-0000000006.safetensors")).unwrap();
        let FoundCheckpoints {
            newest, problems, ..
        } = open(folder.path());
        assert_eq!(newest, Some(checkpoint(2, None)));
        assert!(problems[0].contains("a link to nowhere"), "{problems:?}");
        assert!(problems[1].contains("not a regular file"), "{problems:?}");
        assert_eq!(problems.len(), 2);
        fs::remove_file(path("step-0000000005.safetensors")).unwrap();
        fs::remove_dir(path("step-0000000006.safetensors")).unwrap();

        damage(1);
        damage(2);
        let error = CheckpointFolder::open(folder.path().to_owned(), CONFIG, &network());
        let error = error.err().unwrap().to_string();
        assert!(error.contains("step-0000000002"), "{error}");
    }
}
