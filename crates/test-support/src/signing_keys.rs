//! Keys that sign models, for tests of several processes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::KeyPair;

/// A private key and its public key, as PEM files.
pub struct SigningKeys {
    pub private: PathBuf,
    pub public: PathBuf,
}

impl SigningKeys {
    /// Makes a pair and writes `NAME.pem` and `NAME.pub` into `folder`.
    pub fn write(folder: &Path, name: &str) -> Self {
        let pair = KeyPair::generate().expect("a key is made");
        let keys = Self {
            private: folder.join(format!("{name}.pem")),
            public: folder.join(format!("{name}.pub")),
        };
        fs::write(&keys.private, pair.serialize_pem()).expect("it is written");
        fs::write(&keys.public, pair.public_key_pem()).expect("it is written");
        keys
    }

    /// `--set` argument of an inference service that trusts this key.
    pub fn trusted_setting(&self) -> String {
        format!("signatures.trusted_keys=[{:?}]", self.public)
    }
}
