//! Where files are: in a folder, or below a prefix of a bucket.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// The place of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A folder of this machine, or of a mounted file system.
    Folder(PathBuf),
    /// A prefix of a bucket.
    Bucket(BucketLocation),
}

/// A prefix of a bucket. Displayed as its URL without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketLocation {
    /// The protocol.
    pub provider: Provider,
    /// The name of the bucket or container.
    pub bucket: String,
    /// The names of the objects begin with it; empty for the whole bucket.
    pub prefix: object_store::path::Path,
}

/// The protocol of an object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Amazon S3, or a store with its protocol.
    S3,
    /// Google Cloud Storage.
    GoogleCloud,
    /// Azure Blob Storage.
    Azure,
}

/// The text is neither a folder nor the URL of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a folder, file:///FOLDER, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
)]
pub struct InvalidLocation;

impl Location {
    /// Reads a URL; a text without `://` is a folder.
    ///
    /// # Errors
    /// [`InvalidLocation`] for another protocol, no bucket, or an invalid or empty path.
    pub fn parse(text: &Path) -> Result<Self, InvalidLocation> {
        let url = text.to_str().and_then(|text| text.split_once("://"));
        let (scheme, rest) = match url {
            None if text.as_os_str().is_empty() => return Err(InvalidLocation),
            None => return Ok(Self::Folder(text.to_owned())),
            Some(parts) => parts,
        };
        let provider = match scheme {
            "file" if rest.starts_with('/') => return Ok(Self::Folder(rest.into())),
            "s3" => Provider::S3,
            "gs" => Provider::GoogleCloud,
            "az" => Provider::Azure,
            _ => return Err(InvalidLocation),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = object_store::path::Path::parse(prefix).map_err(|_| InvalidLocation)?;
        if bucket.is_empty() {
            return Err(InvalidLocation);
        }
        Ok(Self::Bucket(BucketLocation {
            provider,
            bucket: bucket.to_owned(),
            prefix,
        }))
    }
}

impl BucketLocation {
    /// Whether `other` is this prefix or below it.
    pub fn contains(&self, other: &Self) -> bool {
        let same_bucket = (self.provider, &self.bucket) == (other.provider, &other.bucket);
        same_bucket && other.prefix.prefix_matches(&self.prefix)
    }

    /// The prefix `name` below this one.
    pub fn below(&self, name: &str) -> Self {
        Self {
            prefix: self.prefix.clone().join(name),
            ..self.clone()
        }
    }
}

impl Provider {
    /// The scheme of its URLs.
    fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::GoogleCloud => "gs",
            Self::Azure => "az",
        }
    }
}

impl fmt::Display for BucketLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.provider.scheme(), self.bucket)?;
        if self.prefix.is_root() {
            return Ok(());
        }
        write!(f, "/{}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Location, InvalidLocation> {
        Location::parse(Path::new(text))
    }

    #[test]
    fn a_path_is_a_folder_and_a_url_a_bucket() {
        for (text, folder) in [
            ("models", "models"),
            ("/srv/models", "/srv/models"),
            ("a:b", "a:b"),
            ("file:///srv/models", "/srv/models"),
        ] {
            assert_eq!(parse(text), Ok(Location::Folder(folder.into())));
        }
        for (text, provider, prefix, shown) in [
            ("s3://b", Provider::S3, "", "s3://b"),
            ("s3://b/", Provider::S3, "", "s3://b"),
            ("gs://b/a/c", Provider::GoogleCloud, "a/c", "gs://b/a/c"),
            ("az://b/a/", Provider::Azure, "a", "az://b/a"),
        ] {
            let Ok(Location::Bucket(found)) = parse(text) else {
                panic!("{text} is a bucket");
            };
            let found_prefix: &str = found.prefix.as_ref();
            let parts = (found.provider, found.bucket.as_str(), found_prefix);
            assert_eq!(parts, (provider, "b", prefix));
            assert_eq!(found.to_string(), shown);
        }
    }

    #[test]
    fn a_prefix_contains_whole_names_below_it() {
        let bucket = |text: &str| match parse(text) {
            Ok(Location::Bucket(bucket)) => bucket,
            other => panic!("{text}: {other:?}"),
        };
        for (outer, inner, contained) in [
            ("s3://b", "s3://b/a", true),
            ("s3://b/a/", "s3://b/a", true),
            ("s3://b/a", "s3://b/a/c", true),
            ("s3://b/a", "s3://b/ac", false),
            ("s3://b/a/c", "s3://b/a", false),
            ("s3://b/a", "gs://b/a", false),
            ("s3://b", "s3://bc", false),
        ] {
            let found = bucket(outer).contains(&bucket(inner));
            assert_eq!(found, contained, "{outer} {inner}");
        }
    }

    #[test]
    fn a_name_is_appended_to_any_prefix() {
        for (prefix, below) in [("s3://b", "s3://b/.c"), ("az://b/a/", "az://b/a/.c")] {
            let Ok(Location::Bucket(prefix)) = parse(prefix) else {
                panic!("{prefix} is a bucket");
            };
            assert_eq!(prefix.below(".c").to_string(), below);
        }
    }

    #[test]
    fn other_texts_are_rejected() {
        for bad in [
            "",
            "http://b/a",
            "s3:///a",
            "s3://",
            "s3://b/a//c",
            "s3://b/../a",
            "file://models",
        ] {
            assert_eq!(parse(bad), Err(InvalidLocation), "{bad}");
        }
    }
}
