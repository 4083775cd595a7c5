//! Shows a recording's progress on standard error: a bar on a terminal, lines elsewhere.

use common::{disk_space::human_bytes, output::Messages};
use std::{
    fmt,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use student_trainer::soft_targets::{
    Progress,
    record::{RecordingPlan, RecordingSummary, Work},
};

/// Time between two lines.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

const BAR: &str =
    "{msg} [{wide_bar}] {percent} %  {human_pos} of {human_len} images  {rate}  {eta} left";

/// Shows a recording's progress.
pub struct RecordingProgress {
    is_terminal: bool,
    bar: Option<ProgressBar>,
    started: Instant,
    latest_line: Instant,
}

impl RecordingProgress {
    pub fn new(is_terminal: bool) -> Self {
        Self {
            is_terminal,
            bar: None,
            started: Instant::now(),
            latest_line: Instant::now(),
        }
    }

    /// Begins with another recording: prints what will be recorded and the space that it takes.
    pub fn begin(&mut self, plan: &RecordingPlan) {
        self.finish();
        *self = Self::new(self.is_terminal);
        let disk = plan.space.disk;
        let free = disk.map(|disk| format!(", {} free", human_bytes(disk.free)));
        let free = free.unwrap_or_default();
        writeln!(
            Messages,
            "recording {} views of {} images as {}: {} bytes an image, {} to write to {}{free}",
            plan.views,
            plan.images,
            plan.encoding,
            plan.bytes_per_image,
            human_bytes(plan.space.needed),
            plan.folder.display()
        );
        if !plan.worker.is_alone() {
            let (share, shards) = (plan.share, plan.shards);
            writeln!(
                Messages,
                "{} records {share} of the {shards} shards",
                plan.worker
            );
        }
    }

    /// Shows the progress after a batch.
    pub fn show(&mut self, work: Work, progress: Progress) {
        let view = format!("view {}", progress.shard.view + 1);
        if self.is_terminal {
            let bar = self.bar.get_or_insert_with(|| new_bar(work.images));
            bar.set_message(view);
            bar.set_position(progress.images);
            return;
        }
        let done = progress.images == work.images;
        if done || self.latest_line.elapsed() >= LINE_INTERVAL {
            self.latest_line = Instant::now();
            let seconds = self.started.elapsed().as_secs_f64().max(1e-9);
            let rate = progress.images as f64 / seconds;
            let left = (work.images - progress.images) as f64 / rate;
            writeln!(
                Messages,
                "{view}: {} of {} images, {rate:.0} images/s, {left:.0} s left",
                progress.images, work.images
            );
        }
    }

    /// Prints what was recorded, and whether other workers still have to record shards.
    pub fn summarize(summary: &RecordingSummary) {
        let RecordingSummary {
            folder,
            recorded,
            skipped,
            missing,
        } = summary;
        let folder = folder.display();
        writeln!(
            Messages,
            "recorded {recorded} shards, skipped {skipped} that were there"
        );
        if *missing == 0 {
            writeln!(Messages, "the recording {folder} is complete");
        } else {
            writeln!(
                Messages,
                "the recording {folder} lacks {missing} shards of other workers"
            );
        }
    }

    /// Ends the bar's line.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish();
            // The bar leaves the cursor at the end of its line.
            writeln!(Messages);
        }
    }
}

fn new_bar(images: u64) -> ProgressBar {
    // Holds: the template is a valid constant.
    let style = ProgressStyle::with_template(BAR).expect("the template is valid");
    let rate = |state: &ProgressState, text: &mut dyn fmt::Write| {
        // Writing to a bar's text cannot fail.
        let _ = write!(text, "{:.0} images/s", state.per_sec());
    };
    let style = style.with_key("rate", rate).progress_chars("=> ");
    ProgressBar::new(images).with_style(style)
}
