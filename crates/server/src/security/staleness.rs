//! Which files of credentials hold something else than what is in use.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The gauge's name.
const NAME: &str = "retort_credentials_stale";

/// Every file of credentials of a service, and whether an older state of it is in use because the
/// present one cannot be used. A cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Staleness(Arc<Mutex<BTreeMap<PathBuf, bool>>>);

impl Staleness {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, bool>> {
        // Holds: nothing panics while it has the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, file: &Path, stale: bool) {
        self.lock().insert(file.to_owned(), stale);
    }

    /// As Prometheus reads it: `retort_credentials_stale{file="…"}` is 1 for a file whose present
    /// state cannot be used, and 0 for the others. Empty for a service without credentials.
    pub fn render(&self) -> String {
        let files = self.lock();
        if files.is_empty() {
            return String::new();
        }
        let mut text = format!(
            "# HELP {NAME} 1 while an older state of the file is in use, because the present one cannot \
             be used.\n# TYPE {NAME} gauge\n"
        );
        for (file, stale) in &*files {
            let file = escape(&file.display().to_string());
            // Holds: a String takes everything.
            let _ = writeln!(text, "{NAME}{{file=\"{file}\"}} {}", u8::from(*stale));
        }
        text
    }
}

/// As the value of a label.
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
