//! Signed models, by Retort and by the Python package `model-signing`.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use common::digest::Sha256;
use model_signing::{ModelFiles, SIGNATURE_FILE, SigningKey};
use proto::publish::v1::PublishHeader;
use test_support::{Bucket, SigningKeys};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    buckets::{comes_to_serve, start_with},
    clients::{folder_of, python},
    publish_checks::check,
    support::{
        Artifact, MODEL, Service, ServiceOptions, infer_request, listed, publish, serve_to_the_end,
        upload,
    },
};

const REQUIRED: &str = "signatures.required=true";

/// The signature of `artifact`.
fn signature(artifact: &Artifact, keys: &SigningKeys) -> Vec<u8> {
    let manifest = artifact.manifest.to_string();
    let files = ModelFiles::published(Sha256::of(&artifact.onnx), manifest.as_bytes());
    let key = SigningKey::read(&keys.private).expect("it is a key");
    model_signing::sign(MODEL, &files, &key).expect("it is signed")
}

/// The header of an upload of `artifact` with `signature`.
fn header(artifact: &Artifact, signature: &[u8]) -> PublishHeader {
    PublishHeader {
        signature: signature.to_vec().into(),
        ..artifact.header()
    }
}

/// Publishes `artifact` with a signature; returns its version and whether it was stored already.
async fn publish_signed(
    service: &Service,
    artifact: &Artifact,
    signature: &[u8],
) -> Result<(u64, bool), Status> {
    let upload = upload(header(artifact, signature), &artifact.onnx);
    let published = service.publish(upload).await?;
    Ok((published.version, published.already_published))
}

#[track_caller]
fn assert_refused(status: &Status, reason: &str, part: &str) {
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let info = status.get_details_error_info().expect("it has a reason");
    assert_eq!(info.reason, reason, "{status}");
    assert!(status.message().contains(part), "{part} is not in {status}");
}

#[tokio::test]
async fn only_what_a_trusted_key_signed_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let keys = SigningKeys::write(folder.path(), "trusted");
    let others = SigningKeys::write(folder.path(), "other");
    let trusted = keys.trusted_setting();
    let service = Service::start(&ServiceOptions {
        set: &[&trusted, REQUIRED],
        ..ServiceOptions::default()
    });
    let first = Artifact::constant(1);
    let signed = signature(&first, &keys);
    let published = publish_signed(&service, &first, &signed).await.unwrap();
    assert_eq!(published, (1, false));
    let stored = fs::read(service.store().join(MODEL).join("1").join(SIGNATURE_FILE));
    assert_eq!(stored.unwrap(), signed);

    let next = Artifact::constant(2);
    let good = signature(&next, &keys);
    // One byte of the file, with its digest in the manifest, which a check of digests alone accepts.
    let mut other_byte = next.clone();
    other_byte.onnx[100] ^= 1;
    other_byte.manifest["onnx"]["sha256"] = serde_json::json!(Sha256::of(&other_byte.onnx));
    let mut other_manifest = next.clone();
    other_manifest.manifest["class_names"] = serde_json::json!(["a", "b", "c"]);
    let mut damaged = good.clone();
    damaged[good.len() / 2] ^= 1;
    for (artifact, signature, reason, part) in [
        (
            &next,
            Vec::new(),
            "SIGNATURE_MISSING",
            "signatures.required",
        ),
        (
            &other_byte,
            good.clone(),
            "SIGNATURE_REFUSED",
            "manifest.json was changed",
        ),
        (
            &other_manifest,
            good.clone(),
            "SIGNATURE_REFUSED",
            "manifest.json was changed",
        ),
        (
            &next,
            signature(&next, &others),
            "SIGNATURE_REFUSED",
            "no trusted key made it",
        ),
        (&next, damaged, "SIGNATURE_REFUSED", "the signature"),
        (
            &next,
            b"{}".to_vec(),
            "SIGNATURE_REFUSED",
            "damaged or in another format",
        ),
    ] {
        let status = publish_signed(&service, artifact, &signature)
            .await
            .unwrap_err();
        assert_refused(&status, reason, part);
        // A run learns it before it trains.
        let checked = check(&service, header(artifact, &signature), &artifact.onnx, 0).await;
        assert_refused(&checked.unwrap_err(), reason, part);
        assert_eq!(service.serving_version().await, "1");
        assert_eq!(listed(&service).await, [(1, true)]);
    }

    check(&service, header(&next, &good), &next.onnx, 0)
        .await
        .unwrap();
    let published = publish_signed(&service, &next, &good).await.unwrap();
    assert_eq!(published, (2, false));
    assert_eq!(service.serving_version().await, "2");
}

#[tokio::test]
async fn a_canary_needs_a_signature_and_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let keys = SigningKeys::write(folder.path(), "trusted");
    let others = SigningKeys::write(folder.path(), "other");
    let trusted = keys.trusted_setting();
    let service = Service::start(&ServiceOptions {
        set: &[&trusted, REQUIRED, "canary.share=0.5"],
        ..ServiceOptions::default()
    });
    let first = Artifact::constant(1);
    let signed = signature(&first, &keys);
    let published = publish_signed(&service, &first, &signed).await.unwrap();
    assert_eq!(published, (1, false));

    let next = Artifact::constant(2);
    for (signature, reason, part) in [
        (Vec::new(), "SIGNATURE_MISSING", "signatures.required"),
        (
            signature(&next, &others),
            "SIGNATURE_REFUSED",
            "no trusted key made it",
        ),
    ] {
        let status = publish_signed(&service, &next, &signature).await;
        assert_refused(&status.unwrap_err(), reason, part);
        assert_eq!(listed(&service).await, [(1, true)]);
    }

    let signed = signature(&next, &keys);
    let upload = upload(header(&next, &signed), &next.onnx);
    let published = service.publish(upload).await.unwrap();
    assert_eq!((published.version, published.canary), (2, true));
    let stored = |file: &str| fs::read(service.store().join(MODEL).join("2").join(file)).unwrap();
    assert_eq!(stored(SIGNATURE_FILE), signed);
    assert!(stored("manifest.json") == next.manifest.to_string().as_bytes());
}

#[tokio::test]
async fn without_keys_signatures_are_stored_and_not_required() {
    let folder = tempfile::tempdir().unwrap();
    let keys = SigningKeys::write(folder.path(), "any");
    let service = Service::start(&ServiceOptions::default());
    let artifact = Artifact::constant(1);
    let signed = signature(&artifact, &keys);
    let published = publish_signed(&service, &artifact, &signed).await.unwrap();
    assert_eq!(published, (1, false));
    assert_eq!(publish(&service, &Artifact::constant(2)).await, (2, false));
    let signature_of = |version: &str| {
        fs::read(
            service
                .store()
                .join(MODEL)
                .join(version)
                .join(SIGNATURE_FILE),
        )
        .ok()
    };
    assert_eq!(signature_of("1"), Some(signed));
    assert_eq!(signature_of("2"), None);
}

#[tokio::test]
async fn a_restart_verifies_the_stored_models_again() {
    let folder = tempfile::tempdir().unwrap();
    let keys = SigningKeys::write(folder.path(), "trusted");
    let (trusted, models) = (keys.trusted_setting(), folder.path().join("models"));
    let plain = ServiceOptions {
        store: Some(&models),
        ..ServiceOptions::default()
    };
    let strict = ServiceOptions {
        store: Some(&models),
        set: &[&trusted, REQUIRED],
        ..ServiceOptions::default()
    };
    let artifact = Artifact::constant(1);
    let service = Service::start(&plain);
    assert_eq!(publish(&service, &artifact).await, (1, false));
    drop(service);

    let service = Service::start(&strict);
    assert_eq!(states(&service).await, [(1, "UNAVAILABLE".to_owned())]);
    service.log_once(|log| log.contains("the model is not signed"));
    let status = service.activate(MODEL, 1).await.unwrap_err();
    assert_refused(&status, "SIGNATURE_MISSING", "signatures.required");
    // The stored version is refused, so the same model with a signature is a new one.
    let signed = signature(&artifact, &keys);
    let published = publish_signed(&service, &artifact, &signed).await.unwrap();
    assert_eq!(published, (2, false));
    let again = publish_signed(&service, &artifact, &signed).await.unwrap();
    assert_eq!(again, (2, true));
    drop(service);

    let service = Service::start(&strict);
    assert_eq!(service.serving_version().await, "2");
    drop(service);

    // A space means nothing in JSON, and is still not what was signed.
    let manifest = models.join(MODEL).join("2/manifest.json");
    let mut json = fs::read(&manifest).unwrap();
    json.push(b' ');
    fs::write(&manifest, json).unwrap();
    let service = Service::start(&strict);
    service.log_once(|log| log.contains("manifest.json was changed"));
    let states = states(&service).await;
    assert!(
        states.iter().all(|(_, state)| state == "UNAVAILABLE"),
        "{states:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_service_puts_into_a_bucket_is_verified_too() {
    let bucket = Bucket::start();
    let folder = tempfile::tempdir().unwrap();
    let keys = SigningKeys::write(folder.path(), "trusted");
    let others = SigningKeys::write(folder.path(), "other");
    let trusted = keys.trusted_setting();
    let strict = [trusted.as_str(), REQUIRED];
    let open = start_with(&bucket, folder.path(), "open", 60, &[]);
    let verifying = start_with(&bucket, folder.path(), "verifying", 60, &strict);

    assert_eq!(publish(&open, &Artifact::constant(1)).await, (1, false));
    verifying.log_once(|log| log.contains("the model is not signed"));
    assert!(verifying.infer(infer_request(1).0).await.is_err());

    let second = Artifact::constant(2);
    let signed = signature(&second, &keys);
    let published = publish_signed(&open, &second, &signed).await.unwrap();
    assert_eq!(published, (2, false));
    comes_to_serve(&verifying, 2).await;

    let third = Artifact::constant(3);
    let signed = signature(&third, &others);
    let published = publish_signed(&open, &third, &signed).await.unwrap();
    assert_eq!(published, (3, false));
    verifying.log_once(|log| log.contains("no trusted key made it"));
    comes_to_serve(&open, 3).await;
    comes_to_serve(&verifying, 2).await;
    let status = verifying.activate(MODEL, 1).await.unwrap_err();
    assert_refused(&status, "SIGNATURE_MISSING", "signatures.required");

    // It publishes into the bucket what it accepts, and accepts that after a restart.
    let fourth = Artifact::constant(4);
    let signed = signature(&fourth, &keys);
    let published = publish_signed(&verifying, &fourth, &signed).await.unwrap();
    assert_eq!(published, (4, false));
    comes_to_serve(&open, 4).await;
    drop(verifying);
    let verifying = start_with(&bucket, folder.path(), "verifying", 60, &strict);
    comes_to_serve(&verifying, 4).await;
}

/// Number and state of every version.
async fn states(service: &Service) -> Vec<(u64, String)> {
    let versions = service.versions().await.into_iter();
    versions
        .map(|version| (version.version, version.state))
        .collect()
}

#[test]
fn keys_are_checked_before_the_service_starts() {
    let folder = tempfile::tempdir().unwrap();
    let keys = SigningKeys::write(folder.path(), "k");
    let private = format!("signatures.trusted_keys=[{:?}]", keys.private);
    for (settings, parts) in [
        (&[REQUIRED][..], &["signatures.required"][..]),
        (
            &[
                REQUIRED,
                "signatures.trusted_keys=[\"none.pub\", \"nor.pub\"]",
            ],
            &["trusted_keys[0]", "none.pub", "trusted_keys[1]", "nor.pub"],
        ),
        (
            &[private.as_str()],
            &["trusted_keys[0]", "BEGIN PUBLIC KEY"],
        ),
    ] {
        let arguments: Vec<_> = settings.iter().map(|set| format!("--set={set}")).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ended = serve_to_the_end(&folder.path().join("models"), &arguments);
        assert_eq!(ended.status.code(), Some(64), "{}", ended.stderr);
        for part in parts {
            assert!(
                ended.stderr.contains(part),
                "{part} is not in {}",
                ended.stderr
            );
        }
    }
}

/// `model_signing METHOD key FOLDER …` of the Python package.
fn model_signing_package(method: &str, folder: &Path, key: &Path) -> Output {
    let option = match method {
        "sign" => "--private_key",
        _ => "--public_key",
    };
    let mut command: Command = python();
    command
        .args(["-m", "model_signing", method, "key"])
        .arg(folder);
    command.arg("--signature").arg(folder.join(SIGNATURE_FILE));
    command.arg(option).arg(key);
    command.output().expect("Python starts")
}

/// Retort's signatures verify with the Python package, and the reverse.
#[tokio::test]
async fn the_python_package_and_retort_accept_each_others_signatures() {
    let keys_folder = tempfile::tempdir().unwrap();
    let keys = SigningKeys::write(keys_folder.path(), "trusted");
    let others = SigningKeys::write(keys_folder.path(), "other");
    let artifact = Artifact::constant(1);
    let folder = folder_of(&artifact);
    let folder = folder.path();
    // As in a run's folder: further files, and a model of its own.
    fs::write(folder.join("weights.safetensors"), b"weights").unwrap();
    fs::create_dir(folder.join("int8")).unwrap();
    fs::write(folder.join("int8/model.onnx"), b"int8").unwrap();

    let key = SigningKey::read(&keys.private).unwrap();
    model_signing::sign_folder(folder, &key).unwrap();
    let verify = |public: &Path| {
        let output = model_signing_package("verify", folder, public);
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let (verified, said) = verify(&keys.public);
    assert!(verified, "{said}");
    let (verified, said) = verify(&others.public);
    assert!(!verified && said.contains("Key mismatch"), "{said}");
    let weights = folder.join("weights.safetensors");
    fs::write(&weights, b"Weights").unwrap();
    let (verified, said) = verify(&keys.public);
    assert!(!verified && said.contains("weights.safetensors"), "{said}");

    let signed = model_signing_package("sign", folder, &keys.private);
    let said = String::from_utf8_lossy(&signed.stderr);
    assert!(signed.status.success(), "{said}");
    let signature = fs::read(folder.join(SIGNATURE_FILE)).unwrap();
    let trusted = keys.trusted_setting();
    let service = Service::start(&ServiceOptions {
        set: &[&trusted, REQUIRED],
        ..ServiceOptions::default()
    });
    let published = publish_signed(&service, &artifact, &signature)
        .await
        .unwrap();
    assert_eq!(published, (1, false));
    let other = Artifact::constant(2);
    let status = publish_signed(&service, &other, &signature)
        .await
        .unwrap_err();
    assert_refused(&status, "SIGNATURE_REFUSED", "was changed");
}
