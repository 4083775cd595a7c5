//! A client of inference services, over gRPC and the Open Inference Protocol v2: typed tensors, TLS, tokens,
//! deadlines and retries.
//!
//! ```no_run
//! use retort_client::{Client, ClientOptions, InferRequest, Tensor};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("127.0.0.1:8001", ClientOptions::default())?;
//! let image = Tensor::new("input", &[1, 1, 28, 28], &[0.0_f32; 784])?;
//! let response = client
//!     .infer(&InferRequest {
//!         model: "fashion-mnist".to_owned(),
//!         inputs: vec![image],
//!         ..InferRequest::default()
//!     })
//!     .await?;
//! let logits: Vec<f32> = response.outputs[0].values()?;
//! # Ok(())
//! # }
//! ```

mod client;
mod error;
mod inference;
mod tensor;

pub use client::{Client, ClientOptions};
pub use error::ClientError;
pub use inference::{InferRequest, InferResponse, ServerTimes};
pub use proto::inference::{ModelConfig, ModelMetadataResponse, ModelStatistics};
pub use server::security::client::Credentials;
pub use tensor::{Element, Tensor, TensorError};
pub use tensors::DataType;
