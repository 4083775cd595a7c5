//! Bearer tokens.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::HeaderValue;
use rustls::crypto::ring;

use common::digest::Sha256;

/// Lets users, and scanners for leaked secrets, recognize a token.
const PREFIX: &str = "retort_";
/// Random bytes in a token: 256 bits cannot be guessed, so a token may be stored as a plain SHA-256.
/// A slow, salted hash is for passwords, which attackers can guess; here it would only slow down every call.
const RANDOM_BYTES: usize = 32;
/// Length of the random part in base64 without padding: six bits per letter.
const RANDOM_LETTERS: usize = (RANDOM_BYTES * 8).div_ceil(6);

/// A bearer token (RFC 6750): `retort_` and 43 letters that encode 256 random bits. `Debug` does not show
/// it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// The error for a text that is not a token. It does not contain the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not a token: a token is {PREFIX} and {RANDOM_LETTERS} letters; create one with `retort tokens create`"
)]
pub struct InvalidToken;

impl Token {
    /// Generates a token from the operating system's random numbers.
    ///
    /// # Errors
    /// If the operating system provides none.
    pub fn generate() -> Result<Self, rustls::Error> {
        let mut random = [0; RANDOM_BYTES];
        let provider = ring::default_provider();
        provider
            .secure_random
            .fill(&mut random)
            .map_err(rustls::Error::from)?;
        let letters = BASE64_URL_SAFE_NO_PAD.encode(random);
        Ok(Self(format!("{PREFIX}{letters}")))
    }

    /// Parses a token and ignores white space around it. Rejects any other text, so that a client never sends
    /// another kind of secret as a token.
    ///
    /// # Errors
    /// If `text` is not a token.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim();
        let letters = text.strip_prefix(PREFIX).ok_or(InvalidToken)?;
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if letters.len() == RANDOM_LETTERS && letters.bytes().all(is_allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidToken)
        }
    }

    /// The digest that a tokens file stores.
    pub fn sha256(&self) -> Sha256 {
        Sha256::of(self.0.as_bytes())
    }

    /// The text of the token, to show to its owner once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The value of an `authorization` header, marked as sensitive.
    pub(super) fn header(&self) -> HeaderValue {
        // Holds: a token is ASCII letters, digits, `-` and `_`.
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.0))
            .expect("a token is a header's value");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_are_read_back() {
        let (one, other) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert_ne!(one, other);
        assert_eq!(Token::parse(&format!(" {}\n", one.reveal())), Ok(one));
    }

    #[test]
    fn other_texts_are_rejected_and_no_token_is_printed() {
        let good = Token::generate().unwrap();
        let shorter = &good.reveal()[..good.reveal().len() - 1];
        for bad in ["", "retort_", shorter, "root:x:0:0", "retort_\n\n"] {
            assert_eq!(Token::parse(bad), Err(InvalidToken), "{bad}");
        }
        assert_eq!(
            format!("{good:?} {:?}", good.header()),
            "Token(…) Sensitive"
        );
    }
}
