//! The memory limit of this container or service.

use std::{fs, path::Path};

/// The files with the limit of the container's control group: version 2, then version 1.
const LIMIT_FILES: [&str; 2] = [
    "sys/fs/cgroup/memory.max",
    "sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// Version 1 represents "no limit" by a number that exceeds the memory of any machine.
const BEYOND_ANY_MACHINE: u64 = 1 << 60;

/// Returns the limit in bytes; `None` if there is none or it cannot be read.
pub fn memory_limit() -> Option<u64> {
    limit_below(Path::new("/"))
}

fn limit_below(root: &Path) -> Option<u64> {
    LIMIT_FILES
        .iter()
        .filter_map(|file| fs::read_to_string(root.join(file)).ok())
        // Version 2 represents "no limit" by "max", which does not parse.
        .filter_map(|text| text.trim().parse().ok())
        .find(|limit| *limit < BEYOND_ANY_MACHINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read_and_no_limit_is_none() {
        for (file, text, limit) in [
            (LIMIT_FILES[0], "67108864\n", Some(67_108_864)),
            (LIMIT_FILES[0], "max\n", None),
            (LIMIT_FILES[1], "1073741824\n", Some(1 << 30)),
            (LIMIT_FILES[1], "9223372036854771712\n", None),
            ("elsewhere", "1", None),
        ] {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            assert_eq!(limit_below(root.path()), limit, "{file} {text}");
        }
    }
}
