//! Publishes and roll-backs under load, and crashes during publishes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use proto::inference::ModelInferResponse;

use crate::support::{Artifact, Load, MODEL, Service, ServiceOptions, infer_request, wait_until};

const MEGABYTE: u64 = 1 << 20;

/// The version that a response names, which its logits encode too.
pub fn encoded(response: &ModelInferResponse) -> u64 {
    let version: u64 = response.model_version.parse().expect("it is a number");
    let (logits, _) = response.raw_output_contents[0].as_chunks();
    let logits: Vec<f32> = logits
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    assert_eq!(logits, Artifact::constant_logits(version));
    version
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_publishes_and_fifty_roll_backs_fail_no_call_and_leak_no_memory() {
    const PUBLISHES: u64 = 200;
    const ROLL_BACKS: u64 = 50;
    /// After these publishes, memory should not grow any more.
    const SETTLED: u64 = 50;
    /// Calls between two publishes, so that every publish happens under load.
    const CALLS_BETWEEN: u64 = 20;
    let service = Service::start(&ServiceOptions::default());
    let publish = async |n: u64| {
        let published = service.publish(Artifact::constant(n).upload()).await;
        published.expect("it is published")
    };
    assert_eq!(publish(1).await.version, 1);
    let check = |response: &ModelInferResponse| assert!(encoded(response) > 0);
    let load = Load::start(&service, 4, &infer_request(1).0, Arc::new(check)).await;
    let began = Instant::now();
    let mut settled = 0;
    for n in 2..=PUBLISHES {
        load.answers(CALLS_BETWEEN).await;
        assert_eq!(publish(n).await.version, n);
        if n % (PUBLISHES / ROLL_BACKS) == 0 {
            let back = service.activate(MODEL, n - 1).await;
            assert_eq!(back.expect("it is rolled back"), n);
            let (request, _) = infer_request(1);
            let response = service.infer(request).await.expect("it answers");
            assert_eq!(encoded(&response), n - 1);
        }
        if n == SETTLED {
            settled = service.resident_bytes();
        }
    }
    let elapsed = began.elapsed();
    let grown = service.resident_bytes().saturating_sub(settled);
    let most = settled + 16 * MEGABYTE;
    if service.resident_bytes() > most {
        println!("{grown} bytes more than after {SETTLED}");
        // Freed memory is returned to the system a little later; a leak is not.
        wait_until(|| service.resident_bytes() < most);
    }
    let calls = load.end().await;
    println!(
        "{PUBLISHES} publishes and {ROLL_BACKS} roll-backs in {:.1} s under {:.0} calls/s; \
         memory {:.1} MB, {:.1} MB more than after {SETTLED}",
        elapsed.as_secs_f64(),
        calls as f64 / elapsed.as_secs_f64(),
        settled as f64 / 1e6,
        grown as f64 / 1e6,
    );
    assert!(calls >= CALLS_BETWEEN * (PUBLISHES - 1), "{calls} calls");

    // An old version is not stored again.
    let again = publish(PUBLISHES - 7).await;
    assert_eq!(
        (again.version, again.already_published),
        (PUBLISHES - 7, true)
    );
    assert_eq!(service.versions().await.len() as u64, PUBLISHES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_during_publishes_the_last_committed_version_serves() {
    const PUBLISHES: u64 = 20;
    const CRASHES: u64 = 6;
    for crash in 0..CRASHES {
        let models = tempfile::tempdir().expect("a folder");
        let options = ServiceOptions {
            store: Some(models.path()),
            ..ServiceOptions::default()
        };
        let mut service = Service::start(&options);
        let acknowledged = Arc::new(AtomicU64::new(0));
        let publisher = service.publisher().await;
        let uploads: Vec<_> = (1..=PUBLISHES)
            .map(|n| Artifact::constant(n).upload())
            .collect();
        let publishing = {
            let (mut publisher, acknowledged) = (publisher, Arc::clone(&acknowledged));
            tokio::spawn(async move {
                for (n, upload) in (1..).zip(uploads) {
                    if publisher.publish(tokio_stream::iter(upload)).await.is_err() {
                        return;
                    }
                    acknowledged.store(n, Ordering::SeqCst);
                }
            })
        };
        // Every crash happens in another publish and at another moment of it.
        while acknowledged.load(Ordering::SeqCst) < crash * 3 && !publishing.is_finished() {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(crash * 4)).await;
        service.kill();
        publishing.await.expect("it ends");
        let acknowledged = acknowledged.load(Ordering::SeqCst);

        let service = Service::start(&options);
        let versions = service.versions().await;
        let committed = versions.iter().map(|version| version.version).max();
        let committed = committed.unwrap_or(0);
        // The reply to the last one may have been lost.
        assert!((acknowledged..=acknowledged + 1).contains(&committed));
        if committed > 0 {
            let (request, _) = infer_request(1);
            let response = service.infer(request).await.expect("it answers");
            assert_eq!(encoded(&response), committed);
        }
        let next = service.publish(Artifact::constant(committed + 1).upload());
        assert_eq!(next.await.expect("it is published").version, committed + 1);
    }
}
