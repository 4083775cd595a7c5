//! Predictions for PNG, JPEG and WebP files.

use std::path::PathBuf;

use common::output::Results;
use proto::predict::v1::{ClassifyRequest, predictor_service_client::PredictorServiceClient};

use crate::{CliError, client::Remote, inference::with_deadline};

/// The files and the model that classifies them.
pub(crate) struct Request<'r> {
    /// Name of the model.
    pub(crate) model: &'r str,
    /// `None` for the active version.
    pub(crate) version: Option<u64>,
    /// PNG, JPEG or WebP files.
    pub(crate) files: &'r [PathBuf],
    /// Number of classes to print per file.
    pub(crate) top: u32,
}

/// Prints the most probable classes of every file. Makes one call per file, so that an error names its
/// file.
pub(crate) async fn classify(remote: &Remote, request: Request<'_>) -> Result<(), CliError> {
    let mut client = PredictorServiceClient::new(remote.connect().await?);
    for file in request.files {
        let image = std::fs::read(file).map_err(CliError::file(file))?;
        let version = request.version.map(|version| version.to_string());
        let message = with_deadline(ClassifyRequest {
            model_name: request.model.to_owned(),
            model_version: version.unwrap_or_default(),
            images: vec![image.into()],
            top_k: request.top,
        });
        let response = client.classify(message).await.map_err(remote.refused())?;
        let response = response.into_inner();
        let [classification] = response.classifications.as_slice() else {
            return Err(remote.invalid_answer("the number of classifications is not 1"));
        };
        let classes = classification.classes.iter().map(|class| {
            let percent = class.probability * 100.0;
            format!("{} {percent:.1} %", class.class_name)
        });
        let classes: Vec<_> = classes.collect();
        writeln!(Results, "{}: {}", file.display(), classes.join(", "))?;
    }
    Ok(())
}
