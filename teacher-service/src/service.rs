//! `retort.teacher.v1.TeacherService`.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use server::security::Refusal;

use proto::teacher::v1::{
    DescribeRequest, DescribeResponse, Encoding, Numerics, StreamSoftTargetsRequest,
    teacher_service_server::{TeacherService, TeacherServiceServer},
};
use soft_targets::{interpolation_to_wire, tensor_to_wire};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    config::GrpcConfig,
    error::StreamError,
    loaded_teacher::LoadedTeacher,
    metrics,
    queue::StreamId,
    stream::{Responses, Session, Stopping, StreamLimits},
};

/// The encodings that [`soft_targets`] can write.
const OFFERED_ENCODINGS: [Encoding; 5] = [
    Encoding::F32,
    Encoding::F16,
    Encoding::TopKF32,
    Encoding::TopKF16,
    Encoding::Sampled,
];

/// The gRPC service of one teacher.
pub struct Teacher {
    /// Empty until the teacher is loaded.
    loaded: Arc<OnceLock<LoadedTeacher>>,
    limits: StreamLimits,
    /// Random id of this process, new at each start.
    instance_id: String,
    max_message_bytes: usize,
    max_streams: usize,
    streams: Arc<Semaphore>,
    next_stream: AtomicU64,
    stopping: Stopping,
}

impl Teacher {
    /// Creates the service of `loaded`; `stopping` ends its streams. Until `loaded` is set, calls fail with
    /// UNAVAILABLE.
    pub fn service(
        loaded: Arc<OnceLock<LoadedTeacher>>,
        config: &GrpcConfig,
        stopping: Stopping,
    ) -> TeacherServiceServer<Self> {
        let teacher = Self {
            loaded,
            limits: StreamLimits {
                credit: config.credit,
                reader_timeout: Duration::from_secs(config.reader_timeout_seconds),
                max_batch_bytes: config.max_message_bytes,
            },
            instance_id: random_id(),
            max_message_bytes: config.max_message_bytes,
            max_streams: config.max_streams,
            streams: Arc::new(Semaphore::new(config.max_streams)),
            next_stream: AtomicU64::new(1),
            stopping,
        };
        TeacherServiceServer::new(teacher)
            .max_decoding_message_size(config.max_message_bytes)
            .max_encoding_message_size(config.max_message_bytes)
    }

    fn loaded(&self) -> Result<&LoadedTeacher, Status> {
        let loaded = self.loaded.get();
        loaded.ok_or_else(|| Refusal::Starting.into_status())
    }

    fn open_stream(
        &self,
        loaded: LoadedTeacher,
        inbound: Streaming<StreamSoftTargetsRequest>,
    ) -> Result<Responses, StreamError> {
        if self.stopping.drain.is_cancelled() {
            return Err(StreamError::Draining);
        }
        let place = Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            StreamError::TooManyStreams {
                limit: self.max_streams,
            }
        })?;
        let id = StreamId(self.next_stream.fetch_add(1, Ordering::Relaxed));
        let (session, responses) = Session::new(id, loaded, self.limits, self.stopping.clone());
        let open = metrics::Open::stream();
        tokio::spawn(async move {
            session.run(inbound).await;
            drop(place);
            // Last, so that a stream can be opened once a metric shows that this one has ended.
            drop(open);
        });
        Ok(responses)
    }
}

#[tonic::async_trait]
impl TeacherService for Teacher {
    type StreamSoftTargetsStream = Responses;

    async fn describe(
        &self,
        _request: Request<DescribeRequest>,
    ) -> Result<Response<DescribeResponse>, Status> {
        let LoadedTeacher { compute, data } = self.loaded()?;
        let description = compute.description().clone();
        let message = |tensor| tensor_to_wire(tensor).into_iter().collect();
        let (inputs, outputs) = (message(&description.input), message(&description.output()));
        Ok(Response::new(DescribeResponse {
            model_id: description.identity.model_id,
            numerics: Some(Numerics {
                descriptor: description.identity.numerics,
                probe_sha256: description.identity.probe_sha256,
            }),
            inputs,
            outputs,
            preprocessing: description.preprocessing,
            interpolation: interpolation_to_wire(description.interpolation).into(),
            class_names: description.class_names,
            service_version: env!("CARGO_PKG_VERSION").to_owned(),
            encodings: OFFERED_ENCODINGS.map(i32::from).to_vec(),
            instance_id: self.instance_id.clone(),
            max_message_bytes: self.max_message_bytes as u64,
            data_fingerprint: data
                .as_ref()
                .map_or_else(String::new, |data| data.fingerprint().to_owned()),
        }))
    }

    async fn stream_soft_targets(
        &self,
        request: Request<Streaming<StreamSoftTargetsRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let loaded = self.loaded()?.clone();
        self.open_stream(loaded, request.into_inner())
            .map(Response::new)
            .map_err(StreamError::into_status)
    }
}

/// 128 random bits as hex. The standard library's hash keys come from the operating system's random numbers;
/// nothing that a teacher computes depends on them.
fn random_id() -> String {
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", random(), random())
}
