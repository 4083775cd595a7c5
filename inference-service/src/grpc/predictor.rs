//! `retort.predict.v1.PredictorService`: classifies images.

use std::sync::Arc;

use proto::predict::v1::{
    Classification, ClassifyRequest, ClassifyResponse, RankedClass as RankedClassMessage,
    predictor_service_server::PredictorService,
};
use tonic::{Request, Response, Status};

use super::messages::Caller;
use crate::{
    classification::{Classifier, DEFAULT_TOP_K, ImageRequest, RankedClass},
    inference::{Inference, RequestId},
};

/// Implements the calls.
#[derive(Debug)]
pub(crate) struct PredictorEdge {
    pub(crate) inference: Arc<Inference>,
    pub(crate) classifier: Arc<Classifier>,
}

#[tonic::async_trait]
impl PredictorService for PredictorEdge {
    async fn classify(
        &self,
        request: Request<ClassifyRequest>,
    ) -> Result<Response<ClassifyResponse>, Status> {
        let caller = Caller::of(request.metadata());
        let request = request.into_inner();
        let request = ImageRequest {
            model: request.model_name,
            version: request.model_version,
            images: request.images,
            top_k: match request.top_k {
                0 => DEFAULT_TOP_K,
                top_k => top_k as usize,
            },
            deadline: caller.deadline,
            request_id: RequestId::of(caller.request_id),
        };
        let classified = self.classifier.classify(&self.inference, request).await?;
        let classification = |classes: Vec<RankedClass>| Classification {
            classes: classes.into_iter().map(to_message).collect(),
        };
        Ok(Response::new(ClassifyResponse {
            model_name: classified.model,
            model_version: classified.version.to_string(),
            classifications: classified.images.into_iter().map(classification).collect(),
        }))
    }
}

fn to_message(class: RankedClass) -> RankedClassMessage {
    RankedClassMessage {
        class_name: class.name,
        // Does not truncate: models have far fewer classes.
        index: class.index as u32,
        probability: class.probability,
        logit: class.logit,
    }
}
