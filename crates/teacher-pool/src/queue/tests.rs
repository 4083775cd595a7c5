use soft_targets::{Encoder, Encoding};

use super::*;
use crate::{observer::tests::Notices, round_trip::RoundTrip};

type Tickets = Vec<oneshot::Receiver<Answer>>;

fn queue() -> BatchQueue {
    BatchQueue::new(Arc::new(Notices::default()))
}

fn submit(queue: &BatchQueue, count: usize) -> Tickets {
    let submit = |_| queue.submit(Bytes::new(), [0; 4]);
    (0..count).map(submit).collect()
}

fn targets(value: f32) -> SoftTargets {
    Encoder::default()
        .encode(Encoding::F32, &[value], 1)
        .unwrap()
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
async fn what_comes_back_goes_first() {
    let queue = queue();
    let [lost, other] = [queue.open_stream(), queue.open_stream()];
    let _tickets = submit(&queue, 4);
    let taken = pull(&queue, lost, 2).await;
    assert_eq!(queue.counts().in_flight, 2);
    assert_eq!(queue.take_back(lost, taken.into_iter()), 2);
    let counts = queue.counts();
    assert_eq!((counts.requeued, counts.waiting), (2, 4));
    assert_eq!(pull(&queue, other, 4).await, [0, 1, 2, 3].map(BatchNumber));
}

#[tokio::test]
async fn a_batch_nobody_waits_for_is_left_out() {
    let queue = queue();
    let stream = queue.open_stream();
    let mut tickets = submit(&queue, 2);
    drop(tickets.remove(0));
    assert_eq!(pull(&queue, stream, 1).await, [BatchNumber(1)]);
    assert!(has_nothing_for(&queue, stream));
}

#[tokio::test]
async fn each_batch_wakes_one_who_waits() {
    let queue = Arc::new(queue());
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
async fn a_hedged_batch_comes_back_only_when_both_are_lost() {
    let queue = queue();
    let [first, second] = [queue.open_stream(), queue.open_stream()];
    let _tickets = submit(&queue, 1);
    let number = pull(&queue, first, 1).await[0];
    let late = Instant::now() + RoundTrip::default().overdue_after();
    assert!(queue.lock().hedge(late).1);
    pull(&queue, second, 1).await;
    let back = |stream| queue.take_back(stream, [number].into_iter());
    assert_eq!((back(first), back(second)), (0, 1));
    assert_eq!(queue.counts().requeued, 1);
}

#[tokio::test]
async fn giving_up_answers_every_ticket_until_resumed() {
    let queue = queue();
    let stream = queue.open_stream();
    let mut tickets = submit(&queue, 3);
    let held = pull(&queue, stream, 1).await;
    queue.give_up(&PoolError::Closed);
    tickets.extend(submit(&queue, 1));
    for ticket in tickets {
        assert_eq!(ticket.await.unwrap(), Err(PoolError::Closed));
    }
    queue.settle(stream, held[0], Ok(targets(1.0)));
    queue.resume();
    let _tickets = submit(&queue, 1);
    assert_eq!(pull(&queue, stream, 1).await, [BatchNumber(3)]);
}
