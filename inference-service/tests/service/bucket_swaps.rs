//! Publishes and roll-backs by two services on one bucket, while clients call both.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use test_support::Bucket;
use tokio::time::timeout;
use tonic::{Status, transport::Channel};

use crate::{
    buckets::{POLL_MILLISECONDS, start_with},
    support::{Artifact, MODEL, PATIENCE, Service, infer_request},
    swaps::encoded,
};

/// Looks at the store after which a service serves what another one acknowledged before: one may have listed the store
/// just before, and the next one finds the change.
const MOST_LOOKS: f64 = 2.0;

/// Two services on one bucket, and what the clients know of them.
struct Pair {
    services: [Service; 2],
    changes: Arc<Changes>,
    delays: Vec<Delay>,
}

/// What a service needed to serve a change that the other one had acknowledged.
struct Delay {
    time: Duration,
    /// Its looks at the store meanwhile that followed every change.
    looks: f64,
}

/// The changes of the active version.
#[derive(Default)]
struct Changes {
    /// The active version after each change. A change is listed before it begins.
    versions: Mutex<Vec<u64>>,
    followers: [Follower; 2],
    are_over: AtomicBool,
}

/// How far one service is.
#[derive(Default)]
struct Follower {
    /// The last change that the service was known to serve.
    served: AtomicUsize,
    answers: AtomicU64,
    /// Answers to calls that began while the service was not yet known to serve the last change.
    answers_during_changes: AtomicU64,
}

impl Pair {
    /// Publishes version `n` at one of the services, and waits until both serve it.
    async fn publish(&mut self, at: usize, n: u64) {
        self.changes.begin(n);
        let published = self.services[at].publish(Artifact::constant(n).upload());
        assert_eq!(published.await.expect("it is published").version, n);
        self.come_to_serve(at, n).await;
    }

    /// Rolls back to `version` at one of the services, and waits until both serve it.
    async fn roll_back(&mut self, at: usize, version: u64) {
        self.changes.begin(version);
        let replaced = self.services[at].activate(MODEL, version).await;
        assert_eq!(replaced.expect("it is rolled back"), version + 1);
        self.come_to_serve(at, version).await;
    }

    /// Waits until the other service answers with what was changed at the service `at`, which serves it before it
    /// acknowledges the change.
    async fn come_to_serve(&mut self, at: usize, version: u64) {
        let acknowledged = Instant::now();
        let (changed, follower) = (&self.services[at], &self.services[1 - at]);
        let looks_before = looks(follower);
        assert!(
            answers_with(changed, version).await,
            "acknowledged and not served"
        );
        self.changes.note_served(at);
        let follow = async {
            loop {
                // Counted before the call, so that every counted look must show in the answer.
                let looks = looks(follower) - looks_before;
                if answers_with(follower, version).await {
                    return looks;
                }
                assert!(looks < MOST_LOOKS, "stale after {looks} looks");
            }
        };
        let looks = timeout(PATIENCE, follow).await.expect("it follows");
        self.changes.note_served(1 - at);
        let time = acknowledged.elapsed();
        self.delays.push(Delay { time, looks });
    }

    /// The longest delay, and the largest number of looks.
    fn largest_delay(&self) -> Delay {
        let delays = self.delays.iter();
        let nothing = Delay {
            time: Duration::ZERO,
            looks: 0.0,
        };
        delays.fold(nothing, |largest, delay| Delay {
            time: largest.time.max(delay.time),
            looks: largest.looks.max(delay.looks),
        })
    }
}

/// The looks of a service at the store that followed every change.
fn looks(service: &Service) -> f64 {
    let line = "retort_inference_store_polls{outcome=\"followed\"}";
    service.metric(line)
}

/// Whether the service answers a call, and does so with this version.
async fn answers_with(service: &Service, version: u64) -> bool {
    let answer = service.infer(infer_request(1).0).await;
    answer.is_ok_and(|answer| encoded(&answer) == version)
}

impl Changes {
    fn begin(&self, version: u64) {
        self.versions.lock().expect("no panic").push(version);
    }

    /// From now on, an answer of the service from before the last change is wrong.
    fn note_served(&self, service: usize) {
        let last = self.last();
        self.followers[service].served.store(last, Ordering::SeqCst);
    }

    /// The number of the last change.
    fn last(&self) -> usize {
        self.versions.lock().expect("no panic").len() - 1
    }

    /// Whether `version` was active after the change `served`, or after a later one.
    fn has_since(&self, served: usize, version: u64) -> bool {
        self.versions.lock().expect("no panic")[served..].contains(&version)
    }
}

/// Calls both services in turn, without pauses or retries, until the changes are over.
async fn call_both(
    mut clients: [GrpcInferenceServiceClient<Channel>; 2],
    changes: Arc<Changes>,
) -> Result<(), Status> {
    let (request, _) = infer_request(1);
    while !changes.are_over.load(Ordering::Relaxed) {
        for (client, follower) in clients.iter_mut().zip(&changes.followers) {
            let served = follower.served.load(Ordering::SeqCst);
            let is_changing = served < changes.last();
            let response = client.model_infer(request.clone()).await?;
            let version = encoded(response.get_ref());
            assert!(
                changes.has_since(served, version),
                "version {version} answers a call that began after change {served} was served"
            );
            follower.answers.fetch_add(1, Ordering::Relaxed);
            if is_changing {
                let answers = &follower.answers_during_changes;
                answers.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_publishes_and_twenty_roll_backs_in_a_bucket_fail_no_call_and_no_answer_is_stale() {
    const PUBLISHES: u64 = 50;
    const ROLL_BACKS: u64 = 20;
    const CLIENTS: usize = 3;
    let bucket = Bucket::start();
    let folder = tempfile::tempdir().expect("a folder");
    let start = |name| start_with(&bucket, folder.path(), name, 60, &[]);
    let mut pair = Pair {
        services: ["first", "second"].map(start),
        changes: Arc::default(),
        delays: Vec::new(),
    };
    pair.publish(0, 1).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let [first, second] = &pair.services;
        let both = [first.inference().await, second.inference().await];
        clients.push(tokio::spawn(call_both(both, Arc::clone(&pair.changes))));
    }

    let began = Instant::now();
    let mut roll_backs = 0;
    for n in 1..=PUBLISHES {
        let (at, version) = (n as usize % 2, n + 1);
        pair.publish(at, version).await;
        if [2, 4].contains(&(n % 5)) {
            // The service that did not publish the version takes it back.
            pair.roll_back(1 - at, version - 1).await;
            roll_backs += 1;
        }
        if n % 10 == 0 {
            for follower in &pair.changes.followers {
                let answers = follower.answers_during_changes.swap(0, Ordering::Relaxed);
                assert!(answers > 0, "no call during publishes up to {n}");
            }
        }
    }
    let elapsed = began.elapsed().as_secs_f64();
    assert_eq!(roll_backs, ROLL_BACKS);
    pair.changes.are_over.store(true, Ordering::Relaxed);
    for client in clients {
        let called = client.await.expect("every answer is right");
        called.expect("no call fails");
    }
    let answers = pair.changes.followers.each_ref();
    let answers = answers.map(|follower| follower.answers.load(Ordering::Relaxed));
    println!(
        "{PUBLISHES} publishes and {ROLL_BACKS} roll-backs in {elapsed:.1} s; answers of the two services: {answers:?}"
    );
    let Delay { time, looks } = pair.largest_delay();
    println!(
        "from an acknowledgement to the other service's answer: at most {} ms and {looks} looks at the store, one every \
         {POLL_MILLISECONDS} ms",
        time.as_millis()
    );
    for service in &pair.services {
        assert_eq!(service.versions().await.len() as u64, PUBLISHES + 1);
    }
}
