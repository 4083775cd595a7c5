//! Panics of the decoders, which are answers to a file and no fault of the service.

use std::{
    any::Any,
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

use tracing::debug;

thread_local! {
    /// Whether this thread is within [`caught`].
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `decode`, which a file can make panic.
///
/// Callers can cause such a panic as often as they like, so it is in the log with
/// `RUST_LOG=inference_service=debug` only, as other bad requests are, and never on standard error.
///
/// # Errors
/// What a panic said.
pub(super) fn caught<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            if DECODING.get() {
                debug!("the image decoder panicked: {panicked}");
            } else {
                others(panicked);
            }
        }));
    });
    let before = DECODING.replace(true);
    // Whatever the decoder was at work on is dropped.
    let decoded = panic::catch_unwind(AssertUnwindSafe(decode));
    DECODING.set(before);
    decoded.map_err(|panicked| text(&*panicked).to_owned())
}

fn text(panicked: &(dyn Any + Send)) -> &str {
    let text = panicked.downcast_ref::<&str>().copied();
    text.or_else(|| panicked.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without words")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_words_and_the_next_call_is_not_affected() {
        let number = 7;
        assert_eq!(
            caught(|| -> () { panic!("words") }),
            Err("words".to_owned())
        );
        assert_eq!(
            caught(|| -> () { panic!("number {number}") }),
            Err("number 7".to_owned())
        );
        assert_eq!(caught(|| 5), Ok(5));
        assert!(!DECODING.get());
    }
}
