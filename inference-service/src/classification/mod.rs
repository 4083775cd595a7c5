//! Images instead of tensors: PNG or JPEG files in, class names with probabilities out.
//!
//! An image goes: limits on its header → decoding → the manifest's preprocessing → the one request
//! path. Only decoding and preprocessing are of this module.

mod decoding;
mod preprocessing;
mod ranking;
mod service;

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
    catalog::LoadedVersion,
    config::ImagesConfig,
    error::InferenceError,
    inference::{F32, Inference, InferenceRequest, InputTensor, RequestId, invalid},
};
pub(crate) use ranking::RankedClass;
pub(crate) use service::PredictorEdge;

/// Classes told of an image where the caller does not say how many.
pub(crate) const DEFAULT_TOP_K: usize = 5;

/// Calls that may wait for a decoder, for each decoder.
const WAITING_A_DECODER: usize = 64;

/// Decodes images, a few at a time, and has them answered.
#[derive(Debug)]
pub(crate) struct Classifier {
    limits: ImagesConfig,
    /// One permit a thread that may decode.
    decoders: Arc<Semaphore>,
    /// Calls that decode or wait to.
    calls: AtomicUsize,
    max_calls: usize,
}

/// What is to be classified.
#[derive(Debug)]
pub(crate) struct ImageRequest {
    pub(crate) model: String,
    /// Empty for the active version.
    pub(crate) version: String,
    /// PNG or JPEG files.
    pub(crate) images: Vec<Bytes>,
    /// Classes wanted of each image; cut to the classes that there are.
    pub(crate) top_k: usize,
    /// When the caller stops waiting.
    pub(crate) deadline: Option<Instant>,
    /// For logs.
    pub(crate) request_id: RequestId,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Classified {
    pub(crate) model: String,
    pub(crate) version: u64,
    /// Of each image, in the request's order: its classes, the likeliest first.
    pub(crate) images: Vec<Vec<RankedClass>>,
}

impl Classifier {
    pub(crate) fn new(config: &ImagesConfig) -> Self {
        let decoders = config.decoders;
        Self {
            limits: config.clone(),
            decoders: Arc::new(Semaphore::new(decoders)),
            calls: AtomicUsize::new(0),
            max_calls: decoders * WAITING_A_DECODER,
        }
    }

    /// Classifies the images of `request`, all in one batch.
    ///
    /// # Errors
    /// [`InferenceError`], naming the image that cannot be used.
    pub(crate) async fn classify(
        &self,
        inference: &Inference,
        request: ImageRequest,
    ) -> Result<Classified, InferenceError> {
        let name = request.request_id.name();
        let version = inference.find(&request.model, &request.version, name)?;
        let samples = request.images.len();
        let timeout = version.config.batching.default_timeout();
        let deadline = request
            .deadline
            .or_else(|| timeout.and_then(|timeout| Instant::now().checked_add(timeout)));
        let top_k = request.top_k;
        let decoded = self.decode(&version, request.images, deadline);
        let access_line = version.access_line(name);
        let record = version.statistics.begin();
        let input = match decoded.await {
            Ok(input) => {
                // It is one request still, counted and logged by what comes now.
                record.forget();
                access_line.discard();
                input
            }
            Err(error) => {
                record.end::<()>(&Err(error.clone()));
                access_line.end(&Err(error.clone()));
                return Err(error);
            }
        };
        let shape = [samples].into_iter().chain(version.interface.input_shape);
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
        };
        let response = version.infer(request).await?;
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
            images: images
                .map(|logits| ranking::rank(logits, names, top_k))
                .collect(),
        })
    }

    /// The images as the model's input, one after the other.
    async fn decode(
        &self,
        version: &Arc<LoadedVersion>,
        images: Vec<Bytes>,
        deadline: Option<Instant>,
    ) -> Result<Vec<f32>, InferenceError> {
        let most = version.config.batching.max_batch_size;
        if images.is_empty() || images.len() > most {
            let problem = format!("{} images; expected 1 to {most}", images.len());
            return Err(invalid("images", problem));
        }
        let _waiting = self.take_place()?;
        let decoder = Arc::clone(&self.decoders).acquire_owned();
        let decoder = match deadline {
            None => decoder.await,
            Some(deadline) => timeout_at(deadline.into(), decoder)
                .await
                .map_err(|_| InferenceError::DeadlineExceeded)?,
        };
        let (version, limits) = (Arc::clone(version), self.limits.clone());
        let gone = CancellationToken::new();
        let _gone = gone.clone().drop_guard();
        let late = move || deadline.is_some_and(|deadline| deadline <= Instant::now());
        let work = task::spawn_blocking(move || {
            // Held as long as the thread works, also when the caller has gone.
            let _decoder = decoder;
            let mut input = Vec::new();
            for (index, file) in images.iter().enumerate() {
                if gone.is_cancelled() || late() {
                    return Err(InferenceError::DeadlineExceeded);
                }
                let image = decoding::decode(file, &limits)
                    .and_then(|image| preprocessing::fit(image, &version.manifest, &limits));
                let image = image.map_err(|problem| InferenceError::Image { index, problem })?;
                preprocessing::normalize(&image, &version.manifest, &mut input);
            }
            Ok(input)
        });
        // A thread that panicked has said why in the log.
        work.await.unwrap_or(Err(InferenceError::DecoderFailed))
    }

    fn take_place(&self) -> Result<Place<'_>, InferenceError> {
        let place = Place(&self.calls);
        let before = self.calls.fetch_add(1, Ordering::Relaxed);
        match before < self.max_calls {
            true => Ok(place),
            false => Err(InferenceError::QueueFull {
                capacity: self.max_calls,
            }),
        }
    }
}

/// A call among those that decode or wait to.
struct Place<'c>(&'c AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
