//! Compiles the `.proto` files with protox, without `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

const PROTOS: [&str; 6] = [
    "inference/grpc_service.proto",
    "inference/model_config.proto",
    "retort/predict/v1/predictor_service.proto",
    "retort/publish/v1/publisher_service.proto",
    "retort/runs/v1/run_service.proto",
    "retort/teacher/v1/teacher_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in PROTOS {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(PROTOS, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // A build script writes only below OUT_DIR, which cargo recreates after a crash.
    #[allow(clippy::disallowed_methods)]
    fs::write(out.join("descriptors.binpb"), descriptors.encode_to_vec())?;
    let services = descriptors.file.iter().flat_map(|file| &file.service);
    for method in services.flat_map(|service| &service.method) {
        let (input, output) = (method.input_type(), method.output_type());
        // BoundedCodec distinguishes requests and responses by these suffixes.
        let has_suffixes = input.ends_with("Request") && output.ends_with("Response");
        assert!(has_suffixes, "{}: {input} to {output}", method.name());
    }
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::bounded::BoundedCodec")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
