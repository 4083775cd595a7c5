//! Begins a run whose output is in a bucket as soon as no other trainer has it.

use std::{path::Path, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    attachment::BucketOutput, copying::BucketRun, error::BucketRunError, persistence::Persistence,
};
use crate::events::NoticeSender;

/// How long a run waits before it looks again whether another trainer still has it.
const PAUSE: Duration = Duration::from_secs(2);

impl BucketRun {
    /// [`Self::attach`] as soon as no other trainer has the run. Names each trainer for which it waits once.
    ///
    /// # Errors
    /// See [`BucketRunError`]; [`BucketRunError::Stopped`] if `stop` is cancelled meanwhile.
    pub fn attach_when_free(
        output: &BucketOutput,
        may_continue: impl Fn(&Path) -> bool,
        stop: &CancellationToken,
        notices: &NoticeSender,
    ) -> Result<Self, BucketRunError> {
        let url = output.url();
        let persistence = Persistence {
            url: &url,
            patience: output.patience,
            stop,
        };
        when_free(persistence, PAUSE, notices, |notices| {
            Self::attach(output, &may_continue, stop, notices)
        })
    }
}

/// Repeats `attach` until no other trainer has the run. Every attempt finds the same trainer, and says the same about it.
fn when_free<T>(
    persistence: Persistence<'_>,
    pause: Duration,
    notices: &NoticeSender,
    mut attach: impl FnMut(&NoticeSender) -> Result<T, BucketRunError>,
) -> Result<T, BucketRunError> {
    let notices = notices.once_each();
    loop {
        match attach(&notices) {
            Err(BucketRunError::InUse { url, holder }) => notices.notice(format!(
                "another trainer ({holder}) uses {url}; the run begins when that trainer has ended"
            )),
            attached => return attached,
        }
        persistence.sleep(pause)?;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::events::{EventSink, RunEvent};

    const URL: &str = "s3://b/run";

    /// Receives notices, and the notices so far.
    fn recorder() -> (NoticeSender, Arc<Mutex<Vec<String>>>) {
        let texts = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&texts);
        let sink = EventSink::new(move |event| match event {
            RunEvent::Notice { text } => received.lock().unwrap().push(text),
            other => panic!("{other:?}"),
        });
        (sink.notices(), texts)
    }

    fn in_use(holder: &str) -> BucketRunError {
        BucketRunError::InUse {
            url: URL.to_owned(),
            holder: holder.to_owned(),
        }
    }

    #[test]
    fn a_run_that_waits_names_each_trainer_once() {
        let (notices, texts) = recorder();
        let persistence = Persistence {
            url: URL,
            patience: Duration::ZERO,
            stop: &CancellationToken::new(),
        };
        let mut holders = ["one", "one", "one", "two", "two"].into_iter();
        let attached = when_free(persistence, Duration::ZERO, &notices, |notices| {
            let Some(holder) = holders.next() else {
                return Ok("attached");
            };
            notices.notice(format!("{holder} had the lease"));
            Err(in_use(holder))
        });
        assert_eq!(attached.unwrap(), "attached");
        assert_eq!(holders.next(), None);
        let waits = |holder: &str| {
            format!(
                "another trainer ({holder}) uses {URL}; the run begins when that trainer has ended"
            )
        };
        let expected = [
            "one had the lease".to_owned(),
            waits("one"),
            "two had the lease".to_owned(),
            waits("two"),
        ];
        assert_eq!(*texts.lock().unwrap(), expected);
    }

    #[test]
    fn a_run_that_waits_stops_on_request_and_fails_for_any_other_reason() {
        let (notices, texts) = recorder();
        let stop = CancellationToken::new();
        let persistence = Persistence {
            url: URL,
            patience: Duration::ZERO,
            stop: &stop,
        };
        // Longer than the test.
        let pause = Duration::from_secs(3600);
        let finished = when_free(persistence, pause, &notices, |_| {
            let url = URL.to_owned();
            Err::<(), _>(BucketRunError::AlreadyFinished { url })
        });
        assert!(
            matches!(finished, Err(BucketRunError::AlreadyFinished { .. })),
            "{finished:?}"
        );
        assert!(texts.lock().unwrap().is_empty());

        let mut attempts = 0;
        let stopped = when_free(persistence, pause, &notices, |_| {
            attempts += 1;
            stop.cancel();
            Err::<(), _>(in_use("one"))
        });
        assert!(
            matches!(stopped, Err(BucketRunError::Stopped { .. })),
            "{stopped:?}"
        );
        assert_eq!((attempts, texts.lock().unwrap().len()), (1, 1));
    }
}
