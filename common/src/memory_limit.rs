//! How much memory this container, or this service, may use.

use std::{fs, path::Path};

/// Where a container sees its own control group: version 2, then version 1.
const LIMIT_FILES: [&str; 2] = [
    "sys/fs/cgroup/memory.max",
    "sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// Version 1 has no word for "no limit" and gives a number beyond any machine's memory.
const BEYOND_ANY_MACHINE: u64 = 1 << 60;

/// The limit in bytes; `None` where there is none, or none can be seen.
pub fn memory_limit() -> Option<u64> {
    limit_below(Path::new("/"))
}

fn limit_below(root: &Path) -> Option<u64> {
    LIMIT_FILES
        .iter()
        .filter_map(|file| fs::read_to_string(root.join(file)).ok())
        // Version 2 says "max" where there is no limit.
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
