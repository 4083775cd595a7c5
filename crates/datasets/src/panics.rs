//! Converts panics of decoders to errors: a malformed file must not look like a fault of the program.

use std::{
    any::Any,
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

use tracing::debug;

thread_local! {
    /// Whether this thread is in [`caught`].
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `decode`, which may panic on malformed files.
///
/// Callers can cause such panics at any rate, so they are logged at level debug, like other bad requests,
/// and never written to standard error.
///
/// # Errors
/// The message of the panic.
pub(crate) fn caught<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            if DECODING.get() {
                debug!("a decoder panicked: {panicked}");
            } else {
                others(panicked);
            }
        }));
    });
    let before = DECODING.replace(true);
    // Unwind safe: the decoder and its state are dropped.
    let decoded = panic::catch_unwind(AssertUnwindSafe(decode));
    DECODING.set(before);
    decoded.map_err(|panicked| text(&*panicked).to_owned())
}

fn text(panicked: &(dyn Any + Send)) -> &str {
    let text = panicked.downcast_ref::<&str>().copied();
    text.or_else(|| panicked.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_and_does_not_affect_the_next_call() {
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
