//! Which credential files changed to a state that the service cannot use.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The gauge's name.
const NAME: &str = "retort_credentials_stale";

/// The credential files of a service. A file is stale while the service uses an older state of it, because
/// it cannot use the current one. A cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Staleness(Arc<Mutex<BTreeMap<PathBuf, bool>>>);

impl Staleness {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, bool>> {
        // Holds: no code panics while it has the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, file: &Path, stale: bool) {
        self.lock().insert(file.to_owned(), stale);
    }

    /// The metrics in Prometheus's text format: `retort_credentials_stale{file="…"}` is 1 for a stale file and
    /// 0 for the others. Empty for a service without credentials.
    pub fn render(&self) -> String {
        let files = self.lock();
        if files.is_empty() {
            return String::new();
        }
        let mut text = format!(
            "# HELP {NAME} 1 while the service uses an older state of the file, because it cannot use the \
             current one.\n# TYPE {NAME} gauge\n"
        );
        for (file, stale) in &*files {
            let file = escape(&file.display().to_string());
            // Writing to a String never fails.
            let _ = writeln!(text, "{NAME}{{file=\"{file}\"}} {}", u8::from(*stale));
        }
        text
    }
}

/// Escapes the value of a label.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_has_a_line() {
        let staleness = Staleness::default();
        assert_eq!(staleness.render(), "");
        staleness.set(Path::new("/keys/server.pem"), false);
        staleness.set(Path::new("/keys/a \"b\""), true);
        let text = staleness.render();
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            "retort_credentials_stale{file=\"/keys/a \\\"b\\\"\"} 1",
            "retort_credentials_stale{file=\"/keys/server.pem\"} 0",
        ];
        assert_eq!(lines, expected);
    }
}
