//! A foreign signature is accepted only if it holds what was signed.

use proptest::prelude::*;
use test_support::damage::{cases, foreign, in_modest_memory};

use super::{
    tests::{P256, P256_PUBLIC, uploaded},
    *,
};

proptest! {
    #![proptest_config(cases(4000))]

    /// A change outside what is signed, for example of a space, may leave a signature valid.
    #[test]
    fn a_foreign_bundle_is_refused_or_holds_the_signed_statement(
        json in foreign(vec![P256.to_vec()])
    ) {
        let trusted = TrustedKeys::from_pem(P256_PUBLIC).unwrap();
        let statement = |json: &[u8]| Bundle::from_json(json)?.verified_statement(&trusted);
        match in_modest_memory(|| verify(&json, &uploaded(), &trusted)) {
            Ok(()) => prop_assert_eq!(statement(&json), statement(P256)),
            Err(error) => prop_assert!(error.to_string().len() < 1000, "{}", error),
        }
    }

    /// What a trusted key signed may be anything too.
    #[test]
    fn a_foreign_statement_is_refused_or_names_the_digests_of_the_files(
        json in foreign(vec![Statement::of("m", &uploaded()).to_json()])
    ) {
        match in_modest_memory(|| Statement::from_json(&json)?.check(&uploaded())) {
            Ok(()) => {
                let text = String::from_utf8_lossy(&json);
                for (name, digest) in uploaded().digests() {
                    prop_assert!(text.contains(digest.as_str()), "{} {}", name, text);
                }
            }
            Err(error) => prop_assert!(error.to_string().len() < 1000, "{}", error),
        }
    }
}
