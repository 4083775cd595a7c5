//! What is signed verifies, what was changed does not, and the signatures of the Python package `model-signing` 1.1.1
//! verify.
//!
//! `fixtures/` was made with that package, for a folder with the files of [`folder`]: for p256 and p384
//! `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem`,
//! `openssl pkey -in key.pem -pubout -out p256.pub` and
//! `model_signing sign key FOLDER --private_key key.pem --signature p256.sig`; with the key of p256, `shards.sig` by
//! `hashing.Config().use_shard_serialization(shard_size=4)`, and `blake3.sig` by
//! `use_file_serialization(hashing_algorithm="blake3")`. No private key is kept.

use std::fs;

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use serde_json::{Value, json};

use super::*;

const ONNX: &[u8] = b"onnx";
const MANIFEST: &[u8] = b"{}\n";

pub(super) const P256_PUBLIC: &[u8] = include_bytes!("fixtures/p256.pub");
pub(super) const P256: &[u8] = include_bytes!("fixtures/p256.sig");
const P384_PUBLIC: &[u8] = include_bytes!("fixtures/p384.pub");
const P384: &[u8] = include_bytes!("fixtures/p384.sig");
const P521_PUBLIC: &[u8] = include_bytes!("fixtures/p521.pub");
const SHARDS: &[u8] = include_bytes!("fixtures/shards.sig");
const BLAKE3: &[u8] = include_bytes!("fixtures/blake3.sig");

/// A new private key, and its public key as the only trusted one.
fn new_keys() -> (SigningKey, TrustedKeys) {
    let pair = KeyPair::generate().unwrap();
    let key = SigningKey::from_pem(pair.serialize_pem().as_bytes()).unwrap();
    let trusted = TrustedKeys::from_pem(pair.public_key_pem().as_bytes()).unwrap();
    (key, trusted)
}

/// The files that are uploaded.
pub(super) fn uploaded() -> ModelFiles {
    ModelFiles::published(Sha256::of(ONNX), MANIFEST)
}

/// A folder like that of an artifact.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("model.onnx", ONNX),
        ("manifest.json", MANIFEST),
        ("weights.safetensors", &b"weights"[..]),
    ] {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// The signed statement of a signature.
fn statement(signature: &[u8]) -> Value {
    let bundle: Value = serde_json::from_slice(signature).unwrap();
    let payload = bundle["dsseEnvelope"]["payload"].as_str().unwrap();
    serde_json::from_slice(&STANDARD.decode(payload).unwrap()).unwrap()
}

/// Signs any statement.
fn signed(statement: &Value, key: &SigningKey) -> Vec<u8> {
    let statement = statement.to_string().into_bytes();
    let signature = key.sign(&bundle::pre_authentication_encoding(&statement));
    Bundle::of(key.public().fingerprint(), &statement, &signature.unwrap()).to_json()
}

#[test]
fn both_curves_sign_and_verify() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384] {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let key = SigningKey::from_pem(pair.serialize_pem().as_bytes()).unwrap();
        let trusted = TrustedKeys::from_pem(pair.public_key_pem().as_bytes()).unwrap();
        let signature = sign("m", &uploaded(), &key).unwrap();
        assert_eq!(verify(&signature, &uploaded(), &trusted), Ok(()));
    }
}

#[test]
fn signatures_of_the_python_package_verify() {
    for (signature, public) in [(P256, P256_PUBLIC), (P384, P384_PUBLIC)] {
        let trusted = TrustedKeys::from_pem(public).unwrap();
        assert_eq!(verify(signature, &uploaded(), &trusted), Ok(()));
        let folder = ModelFiles::in_folder(folder().path()).unwrap();
        assert_eq!(verify(signature, &folder, &trusted), Ok(()));
        // The fingerprint of a key is the SHA-256 of its file.
        let bundle: Value = serde_json::from_slice(signature).unwrap();
        let hint = &bundle["verificationMaterial"]["publicKey"]["hint"];
        assert_eq!(*hint, json!(Sha256::of(public)));
    }
}

#[test]
fn a_folder_is_signed_like_by_the_python_package() {
    let (key, trusted) = new_keys();
    let folder = folder();
    // A model of its own, Git's file and an older signature are not covered.
    for (name, bytes) in [
        ("int8/model.onnx", &b"int8"[..]),
        (".gitignore", &b"x"[..]),
        (SIGNATURE_FILE, &b"old"[..]),
    ] {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
    let signature = sign_folder(folder.path(), &key).unwrap();
    let written = fs::read(folder.path().join(SIGNATURE_FILE)).unwrap();
    assert_eq!(written, signature);
    assert_eq!(verify(&signature, &uploaded(), &trusted), Ok(()));

    let (ours, theirs) = (statement(&signature), statement(P256));
    for pointer in [
        "/_type",
        "/predicateType",
        "/predicate/resources",
        "/predicate/serialization/method",
        "/predicate/serialization/hash_type",
        "/subject/0/digest",
    ] {
        assert!(ours.pointer(pointer).is_some(), "{pointer}");
        assert_eq!(ours.pointer(pointer), theirs.pointer(pointer), "{pointer}");
    }
    let ignored = &ours["predicate"]["serialization"]["ignore_paths"];
    let expected = json!([
        ".git",
        ".gitattributes",
        ".github",
        ".gitignore",
        "model.sig",
        "int8"
    ]);
    assert_eq!(*ignored, expected);
}

#[test]
fn a_changed_file_is_named() {
    let (key, trusted) = new_keys();
    let signature = sign("m", &uploaded(), &key).unwrap();
    let changed = |onnx: &[u8], manifest: &[u8]| {
        let files = ModelFiles::published(Sha256::of(onnx), manifest);
        match verify(&signature, &files, &trusted) {
            Err(SignatureError::Changed { file, .. }) => file,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(changed(b"onny", MANIFEST), "model.onnx");
    assert_eq!(changed(ONNX, b"{}"), "manifest.json");
}

#[test]
fn a_file_that_is_not_signed_is_named() {
    let (key, trusted) = new_keys();
    let signature = sign("m", &uploaded(), &key).unwrap();
    let folder = ModelFiles::in_folder(folder().path()).unwrap();
    let file = "weights.safetensors".to_owned();
    let error = SignatureError::NotCovered { file };
    assert_eq!(verify(&signature, &folder, &trusted), Err(error));
    // The signature of the whole folder covers fewer files too.
    let signature = sign("m", &folder, &key).unwrap();
    assert_eq!(verify(&signature, &uploaded(), &trusted), Ok(()));
}

#[test]
fn another_key_is_refused() {
    let ((key, trusted), (_, others)) = (new_keys(), new_keys());
    let signature = sign("m", &uploaded(), &key).unwrap();
    assert_eq!(verify(&signature, &uploaded(), &trusted), Ok(()));
    for keys in [&others, &TrustedKeys::default()] {
        let error = verify(&signature, &uploaded(), keys).unwrap_err();
        let fingerprint = key.public().fingerprint().to_string();
        assert_eq!(error, SignatureError::Untrusted { key: fingerprint });
    }
}

#[test]
fn a_key_that_is_only_named_is_no_proof() {
    let ((key, _), (other, trusted)) = (new_keys(), new_keys());
    let mut bundle: Value = serde_json::from_slice(&sign("m", &uploaded(), &key).unwrap()).unwrap();
    let trusted_hint = other.public().fingerprint();
    for hint in [json!(trusted_hint), json!(""), Value::Null] {
        bundle["verificationMaterial"]["publicKey"]["hint"] = hint;
        let signature = bundle.to_string();
        let error = verify(signature.as_bytes(), &uploaded(), &trusted).unwrap_err();
        assert_eq!(error, SignatureError::Mismatch);
    }
}

#[test]
fn bundles_of_other_forms_are_refused_with_the_reason() {
    let (key, trusted) = new_keys();
    let good: Value = serde_json::from_slice(&sign("m", &uploaded(), &key).unwrap()).unwrap();
    let changed = |pointer: &str, value: Value| {
        let mut bundle = good.clone();
        *bundle.pointer_mut(pointer).unwrap() = value;
        bundle.to_string().into_bytes()
    };
    let entry = good["dsseEnvelope"]["signatures"][0].clone();
    let deep = format!("{{\"x\":{}", "[".repeat(100_000)).into_bytes();
    for (signature, part) in [
        (Vec::new(), "damaged"),
        (b"{}".to_vec(), "damaged"),
        (deep, "damaged"),
        (vec![b' '; MAX_SIGNATURE_BYTES + 1], "262145 bytes"),
        (changed("/mediaType", json!("x".repeat(1000))), "xxx…`"),
        (
            changed("/dsseEnvelope/payloadType", json!("text/plain")),
            "text/plain",
        ),
        (
            changed("/dsseEnvelope/payload", json!("?")),
            "payload is not base64",
        ),
        (
            changed("/dsseEnvelope/signatures", json!([])),
            "one entry in signatures",
        ),
        (
            changed("/dsseEnvelope/signatures", json!([entry, entry])),
            "one entry in signatures",
        ),
        (
            changed("/dsseEnvelope/signatures/0/sig", json!("AAAA")),
            "does not fit its content",
        ),
        (
            changed("/verificationMaterial", json!({"certificate": {}})),
            "not made with a key",
        ),
    ] {
        let error = verify(&signature, &uploaded(), &trusted)
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{part:?} is not in {error:?}");
        assert!(error.len() < 400, "{error}");
    }
}

#[test]
fn statements_of_other_forms_are_refused_with_the_reason() {
    let (key, trusted) = new_keys();
    let good = statement(&sign("m", &uploaded(), &key).unwrap());
    let changed = |pointer: &str, value: Value| {
        let mut statement = good.clone();
        *statement.pointer_mut(pointer).unwrap() = value;
        signed(&statement, &key)
    };
    let resources = good["predicate"]["resources"].as_array().unwrap();
    let twice = [&resources[..1], &resources[..]].concat();
    let mut twice_named = good.clone();
    twice_named["predicate"]["resources"] = json!(twice);
    let digests: Vec<u8> = twice
        .iter()
        .flat_map(|resource| hex(resource["digest"].as_str().unwrap()))
        .collect();
    twice_named["subject"][0]["digest"]["sha256"] = json!(Sha256::of(&digests));
    let newer = "https://model_signing/signature/v2.0";
    for (signature, part) in [
        (
            changed("/_type", json!("https://in-toto.io/Statement/v9")),
            "Statement/v9",
        ),
        (changed("/predicateType", json!(newer)), newer),
        (
            changed("/predicate/serialization/method", json!("shards")),
            "`shards`",
        ),
        (
            changed("/predicate/serialization/hash_type", json!("blake3")),
            "`blake3`",
        ),
        (
            changed("/predicate/resources/0/algorithm", json!("blake3")),
            "`blake3`",
        ),
        (
            changed("/predicate/resources/0/digest", json!("00")),
            "damaged",
        ),
        (
            changed("/subject/0/digest/sha256", json!(Sha256::of(b""))),
            "its subject",
        ),
        (changed("/subject", json!([])), "one subject"),
        (changed("/predicate", json!({})), "serialization"),
        (signed(&twice_named, &key), "names `manifest.json` twice"),
    ] {
        let error = verify(&signature, &uploaded(), &trusted)
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
    // The same with what the Python package signs.
    let trusted = TrustedKeys::from_pem(P256_PUBLIC).unwrap();
    for (signature, part) in [(SHARDS, "`shards`"), (BLAKE3, "`blake3`")] {
        let error = verify(signature, &uploaded(), &trusted)
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}

#[test]
fn only_keys_of_the_supported_curves_are_read() {
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let private = |pem: &str| SigningKey::from_pem(pem.as_bytes()).map(drop);
    let public = |pem: &[u8]| TrustedKeys::from_pem(pem).map(drop);
    assert_eq!(private(&ed25519.serialize_pem()), Err(InvalidKey::Curve));
    assert_eq!(
        public(ed25519.public_key_pem().as_bytes()),
        Err(InvalidKey::Curve)
    );
    assert_eq!(public(P521_PUBLIC), Err(InvalidKey::Curve));
    assert_eq!(public(P256_PUBLIC), Ok(()));
    // A private key is not a public one, and the reverse.
    assert_eq!(
        public(ed25519.serialize_pem().as_bytes()),
        Err(InvalidKey::NoPublicKey)
    );
    assert_eq!(
        private(&ed25519.public_key_pem()),
        Err(InvalidKey::NoPrivateKey)
    );
    for pem in [
        "",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n",
    ] {
        assert_eq!(private(pem), Err(InvalidKey::NoPrivateKey), "{pem}");
    }
}

#[test]
fn a_file_without_a_key_is_named_and_its_content_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    fs::write(file("good.pub"), P256_PUBLIC).unwrap();
    fs::write(file("bad.pub"), "secret words").unwrap();
    let mut trusted = TrustedKeys::default();
    for name in ["missing.pub", "bad.pub"] {
        let error = trusted.trust(&file(name)).unwrap_err().to_string();
        assert!(error.contains(name) && !error.contains("secret"), "{error}");
        let error = SigningKey::read(&file(name)).unwrap_err().to_string();
        assert!(error.contains(name) && !error.contains("secret"), "{error}");
    }
    assert!(trusted.is_empty());
    trusted.trust(&file("good.pub")).unwrap();
    assert_eq!(verify(P256, &uploaded(), &trusted), Ok(()));
    // Every trusted key is tried.
    let (key, others) = new_keys();
    let signature = sign("m", &uploaded(), &key).unwrap();
    assert!(verify(&signature, &uploaded(), &trusted).is_err());
    assert_eq!(verify(&signature, &uploaded(), &others), Ok(()));
}

#[test]
fn a_folder_without_files_or_with_a_dangling_link_is_not_signed() {
    let (key, _) = new_keys();
    let folder = tempfile::tempdir().unwrap();
    let error = sign_folder(folder.path(), &key).unwrap_err().to_string();
    assert!(error.contains("no files"), "{error}");
    std::os::unix::fs::symlink("nowhere", folder.path().join("model.onnx")).unwrap();
    let error = sign_folder(folder.path(), &key).unwrap_err().to_string();
    assert!(error.contains("model.onnx"), "{error}");
    assert!(!folder.path().join(SIGNATURE_FILE).exists());
}

fn hex(digest: &str) -> [u8; 32] {
    Sha256::parse(digest).unwrap().to_bytes()
}
