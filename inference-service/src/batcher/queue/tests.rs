use std::{sync::Arc, thread, time::Duration};

use tokio::sync::oneshot;

use super::*;
use crate::batcher::{Computed, InputValues};

type Reply = oneshot::Receiver<Result<Computed, InferenceError>>;

fn queue(max_batch_size: usize, delay: Duration, max_queue_size: usize) -> JobQueue {
    JobQueue::new(BatchingConfig {
        max_batch_size,
        max_queue_delay_microseconds: delay.as_micros() as u64,
        max_queue_size,
        default_timeout_microseconds: 0,
    })
}

fn job(samples: usize) -> (Job, Reply) {
    let (reply, answer) = oneshot::channel();
    let job = Job {
        input: InputValues::Typed(vec![]),
        samples,
        enqueued: Instant::now(),
        deadline: None,
        scope: Default::default(),
        reply,
    };
    (job, answer)
}

fn push(queue: &JobQueue, samples: usize) -> Reply {
    let (job, answer) = job(samples);
    queue.push(job).expect("the queue has room");
    answer
}

fn take(queue: &JobQueue) -> Vec<usize> {
    let mut batch = Vec::new();
    queue.take(&mut batch);
    batch.iter().map(|job| job.samples).collect()
}

#[test]
fn a_batch_has_the_queued_requests_in_order_up_to_the_maximum_size() {
    let queue = queue(8, Duration::ZERO, 100);
    let _answers: Vec<_> = [3, 4, 2, 8, 1, 1]
        .map(|samples| push(&queue, samples))
        .into();
    assert_eq!(take(&queue), [3, 4]);
    assert_eq!(take(&queue), [2]);
    assert_eq!(take(&queue), [8]);
    assert_eq!(take(&queue), [1, 1]);
    assert_eq!(queue.len(), 0);
}

#[test]
fn a_full_queue_rejects_requests_unless_a_caller_has_cancelled() {
    let queue = queue(8, Duration::ZERO, 2);
    let _first = push(&queue, 1);
    let second = push(&queue, 1);
    assert_eq!(queue.push(job(1).0), Err(PushError::Full));
    drop(second);
    let _third = push(&queue, 3);
    assert_eq!(take(&queue), [1, 3]);
}

#[test]
fn cancelled_and_expired_requests_are_skipped() {
    let queue = queue(8, Duration::ZERO, 100);
    drop(push(&queue, 1));
    let (mut late, mut answer) = job(2);
    late.deadline = Some(Instant::now());
    queue.push(late).unwrap();
    let _alive = push(&queue, 3);
    assert_eq!(take(&queue), [3]);
    assert!(matches!(
        answer.try_recv(),
        Ok(Err(InferenceError::DeadlineExceeded))
    ));
}

#[test]
fn the_first_request_waits_until_the_batch_is_full() {
    let queue = Arc::new(queue(4, Duration::from_secs(3600), 100));
    let taker = {
        let queue = Arc::clone(&queue);
        thread::spawn(move || take(&queue))
    };
    let _answers: Vec<_> = [1, 1, 2].map(|samples| push(&queue, samples)).into();
    assert_eq!(taker.join().unwrap(), [1, 1, 2]);
}

#[test]
fn the_first_request_waits_no_longer_than_the_delay() {
    let delay = Duration::from_millis(20);
    let queue = queue(4, delay, 100);
    let began = Instant::now();
    let _answer = push(&queue, 1);
    assert_eq!(take(&queue), [1]);
    assert!(began.elapsed() >= delay);
}

#[test]
fn a_request_waits_for_at_most_half_of_the_time_to_its_deadline() {
    let queue = queue(4, Duration::from_secs(3600), 100);
    let (mut hurried, mut answer) = job(1);
    let time = Duration::from_millis(200);
    let deadline = hurried.enqueued + time;
    hurried.deadline = Some(deadline);
    let _patient = push(&queue, 1);
    queue.push(hurried).unwrap();
    let _after = push(&queue, 1);
    let began = Instant::now();
    let mut batch = Vec::new();
    queue.take(&mut batch);
    // On a slow machine the deadline may pass during the test.
    let late = answer.try_recv().is_ok();
    assert_eq!(batch.len(), if late { 2 } else { 3 });
    assert!(began.elapsed() < Duration::from_secs(60));
    assert!(deadline - time / 2 <= Instant::now());
}

#[test]
fn a_later_request_may_be_due_first() {
    let queue = Arc::new(queue(8, Duration::from_secs(3600), 100));
    let _first = push(&queue, 1);
    let taker = {
        let queue = Arc::clone(&queue);
        thread::spawn(move || take(&queue).len())
    };
    let (mut hurried, _answer) = job(1);
    hurried.deadline = Some(hurried.enqueued + Duration::from_millis(500));
    queue.push(hurried).unwrap();
    // Ends long before the delay.
    assert!((1..=2).contains(&taker.join().unwrap()));
}

#[test]
fn remaining_requests_are_due_at_their_own_time() {
    let queue = queue(2, Duration::from_secs(3600), 100);
    let (mut hurried, _answer) = job(2);
    hurried.deadline = Some(hurried.enqueued + Duration::from_secs(7200));
    queue.push(hurried).unwrap();
    let _patient = push(&queue, 1);
    assert_eq!(take(&queue), [2]);
    let waiting = queue.lock();
    let due = waiting.due.unwrap() - waiting.jobs[0].enqueued;
    assert_eq!(due, Duration::from_secs(3600));
}

#[test]
fn a_full_queue_does_not_wait() {
    let queue = queue(8, Duration::from_secs(3600), 2);
    let _answers = [push(&queue, 1), push(&queue, 1)];
    assert_eq!(take(&queue), [1, 1]);
}

#[test]
fn a_closed_queue_is_emptied_and_rejects_requests() {
    let queue = queue(2, Duration::from_secs(3600), 100);
    let _answers = [push(&queue, 1), push(&queue, 2)];
    queue.close();
    assert_eq!(queue.push(job(1).0), Err(PushError::Closed));
    assert_eq!((take(&queue), take(&queue)), (vec![1], vec![2]));
    assert!(!queue.take(&mut Vec::new()));
}

#[test]
fn abandoning_a_queue_notifies_the_callers() {
    let queue = queue(2, Duration::ZERO, 100);
    let mut answer = push(&queue, 1);
    queue.abandon();
    assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    assert!(!queue.take(&mut Vec::new()));
}
