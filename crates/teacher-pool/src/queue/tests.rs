use soft_targets::{Encoder, Encoding, SoftTargets};

use super::*;
use crate::{observer::tests::Recorder, round_trip::RoundTrip};

fn queue() -> (BatchQueue, Arc<Recorder>) {
    let recorder = Arc::new(Recorder::default());
    (BatchQueue::new(recorder.clone()), recorder)
}

fn submit(queue: &BatchQueue, count: usize) -> Vec<oneshot::Receiver<Answer>> {
    let submit = |_| queue.submit(TeacherBatch::default());
    (0..count).map(submit).collect()
}

fn targets() -> SoftTargets {
    Encoder::default().encode(Encoding::F32, &[1.0], 1).unwrap()
}

async fn pull(queue: &BatchQueue, stream: StreamNumber, count: usize) -> Vec<BatchNumber> {
    let mut numbers = Vec::new();
    for _ in 0..count {
        numbers.push(queue.pull(stream).await.number);
    }
    numbers
}

fn has_nothing_for(queue: &BatchQueue, stream: StreamNumber) -> bool {
    queue.lock().assign(stream, Instant::now()).is_none()
}

#[tokio::test]
async fn requeued_batches_go_first() {
    let (queue, recorder) = queue();
    let [lost, other] = [queue.open_stream(), queue.open_stream()];
    let _tickets = submit(&queue, 4);
    let taken = pull(&queue, lost, 2).await;
    assert_eq!(queue.requeue(lost, taken.into_iter()), 2);
    assert_eq!((recorder.requeued(), recorder.unfinished()), (2, 4));
    assert_eq!(pull(&queue, other, 4).await, [0, 1, 2, 3].map(BatchNumber));
}

#[tokio::test]
async fn a_batch_whose_ticket_was_dropped_is_skipped() {
    let (queue, recorder) = queue();
    let stream = queue.open_stream();
    let mut tickets = submit(&queue, 2);
    drop(tickets.remove(0));
    assert_eq!(pull(&queue, stream, 1).await, [BatchNumber(1)]);
    assert!(has_nothing_for(&queue, stream));
    assert_eq!(recorder.unfinished(), 1);
}

#[tokio::test]
async fn each_batch_wakes_one_waiting_stream() {
    let queue = Arc::new(queue().0);
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move { queue.pull(queue.open_stream()).await.number })
        })
        .collect();
    tokio::task::yield_now().await;
    let _tickets = submit(&queue, 2);
    let mut numbers = Vec::new();
    for task in waiting {
        numbers.push(task.await.unwrap());
    }
    numbers.sort();
    assert_eq!(numbers, [0, 1].map(BatchNumber));
}

#[tokio::test]
async fn a_hedged_batch_is_requeued_only_when_both_teachers_are_lost() {
    let (queue, recorder) = queue();
    let [first, second] = [queue.open_stream(), queue.open_stream()];
    let _tickets = submit(&queue, 1);
    let number = pull(&queue, first, 1).await[0];
    let late = Instant::now() + RoundTrip::default().overdue_after();
    assert!(queue.lock().hedge(late).1);
    pull(&queue, second, 1).await;
    let requeue = |stream| queue.requeue(stream, [number].into_iter());
    assert_eq!((requeue(first), requeue(second)), (0, 1));
    assert_eq!(recorder.requeued(), 1);
}

#[tokio::test]
async fn every_ticket_fails_until_the_queue_resumes() {
    let (queue, recorder) = queue();
    let stream = queue.open_stream();
    let mut tickets = submit(&queue, 3);
    let held = pull(&queue, stream, 1).await;
    queue.fail_all(&PoolError::Closed);
    assert_eq!(recorder.unfinished(), 0);
    tickets.extend(submit(&queue, 1));
    for ticket in tickets {
        assert_eq!(ticket.await.unwrap(), Err(PoolError::Closed));
    }
    queue.resolve(stream, held[0], Ok(targets()));
    queue.resume();
    let _tickets = submit(&queue, 1);
    assert_eq!(pull(&queue, stream, 1).await, [BatchNumber(3)]);
}
