//! The gRPC services, and their messages.

mod deadline;
mod direct;
mod error;
mod inference;
mod messages;
mod model_config;
mod predictor;
mod publisher;
mod repository;
mod statistics;
mod upload;

pub(crate) use direct::{Direct, InferenceServer};
pub(crate) use error::Reasons;
pub(crate) use inference::{InferenceEdge, server_metadata};
pub(crate) use messages::metadata;
pub(crate) use model_config::to_message as model_config;
pub(crate) use predictor::PredictorEdge;
pub(crate) use publisher::PublisherEdge;
pub(crate) use repository::index;
pub(crate) use statistics::statistics;
