//! What the way of a batch costs by itself: a backend that computes nothing, over loopback.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::time::Instant;

use common::manifest::TeacherIdentity;
use proto::teacher::v1::{
    Encoding, Numerics, Open, stream_soft_targets_request::Message as Request,
    stream_soft_targets_response::Message as Response,
    teacher_service_client::TeacherServiceClient,
};
use support::{Trainer, u8_tensor};
use teacher_service::{
    backend::{Backend, BackendError, Description},
    batch::Batch,
    compute::Compute,
    config::{Access, GrpcConfig},
    service::Teacher,
    stream::Stopping,
};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;

const BATCHES: u64 = 4000;

/// 128 Fashion-MNIST images: 100 KB.
const SHAPE: [u64; 4] = [128, 1, 28, 28];

/// Of both ends together. The demo's student takes fewer than 100 such batches a second, so the
/// stream then costs less than a twentieth of a core.
const MOST_CPU_SECONDS_A_BATCH: f64 = 500e-6;

/// Answers zeros.
struct Zeros(Description);

impl Backend for Zeros {
    fn description(&self) -> &Description {
        &self.0
    }

    fn logits(&mut self, batch: &Batch) -> Result<Vec<f32>, BackendError> {
        Ok(vec![0.0; batch.samples * self.0.class_names.len()])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_costs_little_beside_the_teacher() {
    let identity = TeacherIdentity {
        model_id: "zeros".into(),
        numerics: "exact".into(),
        probe_sha256: "none".into(),
    };
    let description = Description {
        identity: identity.clone(),
        input_shape: [1, 28, 28],
        normalization_mean: vec![0.0],
        normalization_std: vec![1.0],
        class_names: (0..10).map(|class| class.to_string()).collect(),
    };
    let compute = Compute::start(move || Ok(Zeros(description)))
        .await
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = GrpcConfig {
        listen: address,
        access: Access::ThisMachineOnly,
        credit: 8,
        max_streams: 1,
        max_message_bytes: 1 << 20,
    };
    let service = Teacher::service(compute, &config, Stopping::default());
    let server = common::grpc::server().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));

    let endpoint = common::grpc::endpoint(&address.to_string()).unwrap();
    let client = TeacherServiceClient::new(endpoint.connect().await.unwrap());
    let mut trainer = Trainer::over(client).await;
    trainer.send(Request::Open(Open {
        model_id: identity.model_id,
        numerics: Some(Numerics {
            descriptor: identity.numerics,
            probe_sha256: identity.probe_sha256,
        }),
        encoding: Encoding::F32.into(),
    }));
    assert!(matches!(
        trainer.next().await,
        Ok(Some(Response::Opened(_)))
    ));

    let tensor = u8_tensor(SHAPE, 0);
    let (started, cpu_before) = (Instant::now(), cpu_seconds());
    for id in 0..u64::from(config.credit) {
        trainer.send_batch(id, tensor.clone());
    }
    for id in 0..BATCHES {
        match trainer.next().await {
            Ok(Some(Response::SoftTargets(targets))) => assert_eq!(targets.id, id),
            other => panic!("{other:?}"),
        }
        let next = id + u64::from(config.credit);
        if next < BATCHES {
            trainer.send_batch(next, tensor.clone());
        }
    }
    let each = (cpu_seconds() - cpu_before) / BATCHES as f64;
    let rate = BATCHES as f64 / started.elapsed().as_secs_f64();
    println!(
        "{rate:.0} batches/s, {:.0} us of CPU each, both ends",
        1e6 * each
    );
    // CPU time, since wall-clock time depends on what else the machine does.
    assert!(each < MOST_CPU_SECONDS_A_BATCH, "{each} s of CPU a batch");
}

/// CPU time of this process so far: user and system time of proc(5)'s `stat`, 100 ticks a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The second field, the name, may hold spaces.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = |index: usize| -> f64 { fields.split(' ').nth(index).unwrap().parse().unwrap() };
    (ticks(11) + ticks(12)) / 100.0
}
