//! Any tokens file is rejected with its name, or accepts the same tokens after it is rewritten; a changed digest
//! accepts no caller.

use proptest::prelude::*;

use super::*;
use test_support::damage::{cases, foreign};

const TOKEN: &str = "retort_abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq";

fn valid() -> Vec<u8> {
    let digest = Sha256::of(TOKEN.as_bytes());
    format!(
        "{HEADER}format_version = 1\n\n[[tokens]]\nname = \"ci\"\nscopes = [\"publish\", \"predict\"]\n\
         sha256 = \"{digest}\"\n\n[[tokens]]\nname = \"web\"\nscopes = [\"predict\"]\n\
         sha256 = \"{}\"\n",
        Sha256::of(b"other")
    )
    .into_bytes()
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn a_foreign_file_is_rejected_or_survives_a_rewrite(text in foreign(vec![valid()])) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        fs::write(&path, text).unwrap();
        match Tokens::load(&path) {
            Ok(tokens) => {
                tokens.write(&path).unwrap();
                prop_assert_eq!(Tokens::load(&path).unwrap(), tokens);
            }
            Err(error) => prop_assert!(error.to_string().contains("tokens.toml"), "{}", error),
        }
    }

    #[test]
    fn a_flipped_bit_of_a_digest_accepts_no_token(digit in 0..64usize, bit in 0..7u8) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let mut text = valid();
        fs::write(&path, &text).unwrap();
        prop_assert!(Tokens::load(&path).unwrap().find(TOKEN).is_some());
        let digest = Sha256::of(TOKEN.as_bytes());
        let digest = digest.as_str().as_bytes();
        let start = text.windows(64).position(|window| window == digest).unwrap();
        text[start + digit] ^= 1 << bit;
        fs::write(&path, &text).unwrap();
        let found = Tokens::load(&path).is_ok_and(|tokens| tokens.find(TOKEN).is_some());
        prop_assert!(!found);
    }
}
