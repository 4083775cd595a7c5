//! A bearer token.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::HeaderValue;
use rustls::crypto::ring;

use common::digest::Sha256;

/// Lets people, and tools that look for leaked secrets, see what the text is.
const PREFIX: &str = "retort_";
/// Random bytes in a token: 256 bits cannot be guessed, so a token may be stored as a plain SHA-256.
/// A slow, salted hash is for passwords, which people choose and others try; here it would only
/// slow down every call.
const RANDOM_BYTES: usize = 32;
/// Of base64 without padding: six bits a letter.
const RANDOM_LETTERS: usize = (RANDOM_BYTES * 8).div_ceil(6);

/// A bearer token: `retort_` and 43 letters that hold 256 random bits (RFC 6750 says how it
/// travels). Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// A text that is no token. Does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not a token: `retort tokens create` makes them, {PREFIX}… with {RANDOM_LETTERS} letters"
)]
pub struct InvalidToken;

impl Token {
    /// A new token, from the operating system's random numbers.
    ///
    /// # Errors
    /// When the operating system gives none.
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

    /// Reads a token; white space around it is no part of it. Whatever else a file may hold is
    /// refused, so that no secret of another kind is ever sent as a token.
    ///
    /// # Errors
    /// When `text` is no token.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim();
        let letters = text.strip_prefix(PREFIX).ok_or(InvalidToken)?;
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        match letters.len() == RANDOM_LETTERS && letters.bytes().all(is_allowed) {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidToken),
        }
    }

    /// What is stored of it.
    pub fn sha256(&self) -> Sha256 {
        Sha256::of(self.0.as_bytes())
    }

    /// The token itself, to be shown to its owner once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The value of an `authorization` header, marked so that no one prints it.
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
    fn nothing_else_is_a_token_and_nothing_is_repeated() {
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
