//! Classifies PNG, JPEG and WebP files: images in, class names with probabilities out.
//!
//! Steps for an image: limits on its header, decoding, the preprocessing of the manifest, inference. This
//! module decodes and preprocesses; [`Inference`] does the rest.

mod decoding;
mod preprocessing;
mod ranking;
mod rendering;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use onnx_runtime::INPUT_NAME;
use tokio::{sync::Semaphore, task, time::timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{
    batcher::InputValues,
    config::ImagesConfig,
    error::InferenceError,
    inference::{F32, Inference, InferenceRequest, InputTensor, RequestId, invalid},
    loaded_version::LoadedVersion,
};
pub(crate) use ranking::{RankedClass, rank};

/// Classes in the answer for an image, unless the caller gives a number.
pub(crate) const DEFAULT_TOP_K: usize = 5;

/// Calls that may wait, per decoder.
const WAITING_PER_DECODER: usize = 64;

/// Decodes and classifies images, with a limit on concurrent decoders.
#[derive(Debug)]
pub(crate) struct Classifier {
    limits: ImagesConfig,
    /// One permit per decoding thread.
    decoders: Arc<Semaphore>,
    /// Calls that decode or wait for a decoder.
    calls: AtomicUsize,
    max_calls: usize,
}

/// A request to classify images.
#[derive(Debug)]
pub(crate) struct ImageRequest {
    pub(crate) model: String,
    /// The version; empty for the active one.
    pub(crate) version: String,
    /// PNG, JPEG or WebP files.
    pub(crate) images: Vec<Bytes>,
    /// Classes to return per image, at most those of the model.
    pub(crate) top_k: usize,
    /// When the caller stops waiting.
    pub(crate) deadline: Option<Instant>,
    /// Names the request in logs.
    pub(crate) request_id: RequestId,
}

/// The answer to an [`ImageRequest`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Classified {
    pub(crate) model: String,
    pub(crate) version: u64,
    /// The classes of each image, most probable first; images in the order of the request.
    pub(crate) images: Vec<Vec<RankedClass>>,
}

impl Classifier {
    pub(crate) fn new(config: &ImagesConfig) -> Self {
        let decoders = config.decoders;
        Self {
            limits: config.clone(),
            decoders: Arc::new(Semaphore::new(decoders)),
            calls: AtomicUsize::new(0),
            max_calls: decoders * WAITING_PER_DECODER,
        }
    }

    /// Classifies the images of `request`, all in one batch.
    ///
    /// # Errors
    /// [`InferenceError`], which names the image that cannot be used.
    pub(crate) async fn classify(
        &self,
        inference: &Inference,
        request: ImageRequest,
    ) -> Result<Classified, InferenceError> {
        let name = request.request_id.name();
        let route = inference.route(&request.model, &request.version, name)?;
        let version = &route.version;
        let samples = request.images.len();
        let timeout = version.config.batching.default_timeout();
        let deadline = request
            .deadline
            .or_else(|| timeout.and_then(|timeout| Instant::now().checked_add(timeout)));
        let top_k = request.top_k;
        let decoded = self.decode(version, request.images, deadline);
        let entry = inference.log_entry(version, name);
        let record = version.statistics.begin();
        let input = match decoded.await {
            Ok(input) => {
                // `infer_with` counts and logs the request.
                record.discard();
                entry.discard();
                input
            }
            Err(error) => {
                record.end::<()>(&Err(error.clone()));
                entry.end(&Err(error.clone()));
                return Err(error);
            }
        };
        let sample = version.interface.sample.iter().copied();
        let shape = [samples].into_iter().chain(sample);
        let request = InferenceRequest {
            model: request.model,
            version: request.version,
            id: String::new(),
            request_id: request.request_id,
            deadline,
            inputs: vec![InputTensor {
                name: INPUT_NAME.to_owned(),
                datatype: F32.to_owned(),
                shape: shape.map(|size| size as i64).collect(),
                values: Ok(InputValues::Typed(input)),
                values_field: "images",
            }],
            outputs: Vec::new(),
            timing: false,
        };
        let response = inference.infer_with(&route, request).await?;
        let names = &version.manifest.class_names;
        let (logits, _) = response.logits.as_chunks();
        let logits: Vec<f32> = logits
            .iter()
            .map(|value| f32::from_le_bytes(*value))
            .collect();
        let images = logits.chunks(names.len());
        Ok(Classified {
            model: response.model,
            version: response.version,
            images: images.map(|logits| rank(logits, names, top_k)).collect(),
        })
    }

    /// Decodes the images, in order, to the model's input.
    async fn decode(
        &self,
        version: &Arc<LoadedVersion>,
        images: Vec<Bytes>,
        deadline: Option<Instant>,
    ) -> Result<Vec<f32>, InferenceError> {
        if version.manifest.images().is_none() {
            let input = version.interface.input();
            let problem = format!(
                "the model takes no images but rows of numbers, {input}; send them to it for inference (ModelInfer)"
            );
            return Err(invalid("images", problem));
        }
        let most = version.config.batching.max_batch_size;
        if images.is_empty() || images.len() > most {
            let problem = format!("{} images; expected 1 to {most}", images.len());
            return Err(invalid("images", problem));
        }
        let _call = self.begin_call()?;
        let decoder = Arc::clone(&self.decoders).acquire_owned();
        let decoder = match deadline {
            None => decoder.await,
            Some(deadline) => timeout_at(deadline.into(), decoder)
                .await
                .map_err(|_| InferenceError::DeadlineExceeded)?,
        };
        let (version, limits) = (Arc::clone(version), self.limits.clone());
        let cancelled = CancellationToken::new();
        let _cancel_on_drop = cancelled.clone().drop_guard();
        let late = move || deadline.is_some_and(|deadline| deadline <= Instant::now());
        let work = task::spawn_blocking(move || {
            // Held until the thread ends, even if the caller cancels.
            let _decoder = decoder;
            // Holds: checked above.
            let model = version.manifest.images().expect("the model takes images");
            let mut input = Vec::new();
            for (index, file) in images.iter().enumerate() {
                if cancelled.is_cancelled() || late() {
                    return Err(InferenceError::DeadlineExceeded);
                }
                let image = decoding::decode(file, &limits, model.preprocessing.ground)
                    .and_then(|image| preprocessing::fit(image, model, &limits));
                let image = image.map_err(|problem| InferenceError::Image { index, problem })?;
                preprocessing::normalize(&image, model.preprocessing, &mut input);
            }
            Ok(input)
        });
        // The log has the message of a panic.
        work.await.unwrap_or(Err(InferenceError::DecoderFailed))
    }

    fn begin_call(&self) -> Result<Call<'_>, InferenceError> {
        let call = Call(&self.calls);
        let before = self.calls.fetch_add(1, Ordering::Relaxed);
        if before < self.max_calls {
            Ok(call)
        } else {
            Err(InferenceError::QueueFull {
                capacity: self.max_calls,
            })
        }
    }
}

/// A call that decodes or waits for a decoder.
struct Call<'c>(&'c AtomicUsize);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
