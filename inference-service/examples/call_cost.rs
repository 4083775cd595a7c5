//! What a call costs above inference: the service on one core, callers on another.
//!
//! ```text
//! taskset -c 1 cargo run --release -p inference-service --example call_cost -- \
//!     crates/networks/tests/networks/specs/cnn-24-48-64.toml [CALLERS] [SECONDS] [SERVICE'S BINARY]
//! ```
//!
//! The service is pinned to core 0. The time of a call is processor time of the service, so a
//! busy machine disturbs the figures less than it disturbs throughput; `retort bench serve` measures
//! what callers see.

use std::{
    collections::BTreeMap,
    env, fs,
    net::SocketAddr,
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use common::{digest::Sha256, ready_file};
use networks::{NetworkSpec, Weights};
use onnx_runtime::{Session, SessionOptions};
use proto::{
    inference::{
        ModelInferRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
        model_infer_request::InferInputTensor,
    },
    publish::v1::publisher_service_client::PublisherServiceClient,
};
use server::{grpc, upload::upload};

const CONNECTIONS: usize = 4;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = env::args().skip(1);
    let spec = arguments.next().expect("a network's TOML file");
    let callers: usize = arguments
        .next()
        .map_or(64, |text| text.parse().expect("a number"));
    let seconds: u64 = arguments
        .next()
        .map_or(3, |text| text.parse().expect("a number"));
    let binary = arguments
        .next()
        .unwrap_or_else(|| "target/release/inference-service".to_owned());

    let spec = fs::read_to_string(spec).expect("the spec is there");
    let spec = NetworkSpec::from_toml(&spec).expect("the spec is valid");
    let weights = Weights::initial(&spec, 1).expect("the spec is valid");
    let onnx = networks::onnx::export(&spec, &weights).expect("the weights fit");
    let mut session = Session::load(&onnx, SessionOptions::default()).expect("the model loads");
    let shape = session.interface().input_shape;
    let sample = vec![0.5_f32; shape.iter().product()];
    let logits = session.run(&sample, 1).expect("the model runs");

    let folder = tempfile::tempdir().expect("a folder");
    let (service, addresses) = start(&binary, folder.path());
    publish(&addresses["admin"], &onnx, shape, &logits).await;
    let (raw, batch) = raw_seconds(&mut session, &sample);
    let before = service.processor_seconds();
    let (calls, elapsed) = load(&addresses["grpc"], shape, &sample, callers, seconds).await;
    let processor = (service.processor_seconds() - before) / calls as f64;
    println!(
        "{:.1} us raw a sample (batch {batch}); {callers} callers: {:.0} calls/s, {:.1} us of \
         processor time a call, {:.1} us above inference",
        raw * 1e6,
        calls as f64 / elapsed.as_secs_f64(),
        processor * 1e6,
        (processor - raw) * 1e6,
    );
}

/// A running service, killed when it is dropped.
struct Service(Child);

impl Service {
    /// User and system time of all its threads.
    fn processor_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("it runs");
        let (_, fields) = stat.rsplit_once(") ").expect("the name is in brackets");
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: u64 = ticks.map(|text| text.parse::<u64>().expect("ticks")).sum();
        ticks as f64 / 100.0
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.0.kill().expect("it can be killed");
        self.0.wait().expect("it ends");
    }
}

fn start(binary: &str, folder: &std::path::Path) -> (Service, BTreeMap<String, SocketAddr>) {
    let ready = folder.join("ready.json");
    let mut command = Command::new("taskset");
    command.args(["-c", "0", binary, "serve", "--store"]);
    command
        .arg(folder.join("models"))
        .arg("--ready-file")
        .arg(&ready);
    for key in ["grpc", "admin", "metrics"] {
        command.args(["--set", &format!("{key}.listen=127.0.0.1:0")]);
    }
    let service = Service(command.spawn().expect("the service starts"));
    loop {
        if let Some(addresses) = ready_file::read(&ready).expect("a readable file") {
            return (service, addresses);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

async fn publish(admin: &SocketAddr, onnx: &[u8], shape: [usize; 3], logits: &[f32]) {
    let sha256 = Sha256::of(onnx);
    let classes = logits.len();
    let channels = shape[0];
    // Pixel 255 with this mean and deviation is 0.5.
    let manifest = serde_json::json!({
        "format_version": 1,
        "onnx": {"sha256": sha256, "size": onnx.len()},
        "input_shape": shape,
        "class_names": (0..classes).map(|class| class.to_string()).collect::<Vec<_>>(),
        "preprocessing": {"mean": vec![0.5; channels], "std": vec![1.0; channels]},
        "golden_batch": {
            "images": BASE64.encode(vec![255_u8; shape.iter().product()]),
            "logits": [logits],
            "tolerance": 1e-3,
        },
        "network": {},
        "provenance": {
            "run": "throughput", "seed": 1, "config_sha256": Sha256::of(b""), "dataset": "none",
            "teacher": null, "metrics": {},
        },
    });
    let manifest = manifest.to_string().into();
    let messages = upload(
        "m",
        bytes::Bytes::copy_from_slice(onnx),
        manifest,
        server::upload::IfStored::Activate,
    );
    let endpoint = grpc::endpoint(&admin.to_string()).expect("a valid address");
    let channel = endpoint.connect().await.expect("it can be reached");
    let mut client = PublisherServiceClient::new(channel);
    let published = client.publish(futures::stream::iter(messages)).await;
    published.expect("it is published");
}

/// Time a sample at the best batch size, and that size.
fn raw_seconds(session: &mut Session, sample: &[f32]) -> (f64, usize) {
    let sizes = (0..7).map(|power| 1 << power);
    let timed = sizes.map(|batch| {
        let input = sample.repeat(batch);
        let rounds = (0..20).map(|_| {
            let began = Instant::now();
            session.run(&input, batch).expect("the model runs");
            began.elapsed().as_secs_f64() / batch as f64
        });
        (rounds.fold(f64::INFINITY, f64::min), batch)
    });
    timed
        .min_by(|(a, _), (b, _)| a.total_cmp(b))
        .expect("there are sizes")
}

async fn load(
    address: &SocketAddr,
    shape: [usize; 3],
    sample: &[f32],
    callers: usize,
    seconds: u64,
) -> (u64, Duration) {
    let request = request(shape, sample);
    let calls = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS.min(callers) {
        let endpoint = grpc::endpoint(&address.to_string()).expect("a valid address");
        let channel = endpoint.connect().await.expect("it can be reached");
        clients.push(GrpcInferenceServiceClient::new(channel));
    }
    let began = Instant::now();
    let end = began + Duration::from_secs(seconds);
    let tasks = (0..callers).map(|caller| {
        let mut client = clients[caller % clients.len()].clone();
        let (request, calls) = (request.clone(), Arc::clone(&calls));
        tokio::spawn(async move {
            while Instant::now() < end {
                let response = client.model_infer(request.clone()).await;
                response.expect("it answers");
                calls.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("the caller is content");
    }
    (calls.load(Ordering::Relaxed), began.elapsed())
}

fn request(shape: [usize; 3], sample: &[f32]) -> ModelInferRequest {
    let shape = [1].into_iter().chain(shape.map(|size| size as i64));
    let bytes: Vec<u8> = sample
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    ModelInferRequest {
        model_name: "m".to_owned(),
        inputs: vec![InferInputTensor {
            name: "input".to_owned(),
            datatype: "FP32".to_owned(),
            shape: shape.collect(),
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![bytes.into()],
        ..ModelInferRequest::default()
    }
}
