//! SHA-256 digests, written as lower-case hex.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};
use sha2::{Digest, Sha256 as Hasher};

/// A SHA-256 digest: 64 lower-case hex digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Sha256(String);

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_bytes(Hasher::digest(bytes).into())
    }

    /// Reads 64 lower-case hex digits; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (text.len() == 64 && text.bytes().all(is_hex)).then(|| Self(text.to_owned()))
    }

    /// The 64 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 32 bytes that the hex digits stand for.
    pub fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        // Holds: every digest has 64 hex digits; see `parse`.
        hex::decode_to_slice(&self.0, &mut bytes).expect("64 hex digits");
        bytes
    }

    /// The digest whose 32 bytes are `bytes`. [`of`](Self::of) computes a digest.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(hex::encode(bytes))
    }
}

/// A digest of bytes that arrive in pieces.
#[derive(Clone, Default)]
pub struct RollingSha256(Hasher);

impl RollingSha256 {
    /// Appends `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything appended.
    pub fn finish(self) -> Sha256 {
        Sha256::from_bytes(self.0.finalize().into())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| de::Error::custom(format!("`{text}` is not 64 lower-case hex digits")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digest of "abc": FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn whole_and_rolling_digests_agree_with_the_standard() {
        assert_eq!(Sha256::of(b"abc").as_str(), ABC);
        let mut rolling = RollingSha256::default();
        rolling.update(b"a");
        rolling.update(b"bc");
        assert_eq!(rolling.finish().as_str(), ABC);
    }

    #[test]
    fn hex_digits_and_bytes_are_the_same_digest() {
        let digest = Sha256::of(b"abc");
        assert_eq!(digest.to_bytes()[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(Sha256::from_bytes(digest.to_bytes()), digest);
    }

    #[test]
    fn only_64_lower_case_hex_digits_parse() {
        assert!(Sha256::parse(ABC).is_some());
        for bad in ["", &ABC[1..], &ABC.to_uppercase(), &ABC.replace('b', "g")] {
            assert!(Sha256::parse(bad).is_none(), "{bad}");
        }
    }
}
