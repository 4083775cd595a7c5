use soft_targets::{Encoder, Encoding};

use super::*;
use crate::observer::tests::Notices;

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

/// What happens at times that a test chooses.
struct Scene {
    state: State,
    now: Instant,
    tickets: Tickets,
}

const STREAMS: [StreamNumber; 3] = [StreamNumber(0), StreamNumber(1), StreamNumber(2)];

impl Scene {
    fn new(batches: usize) -> Self {
        let (mut state, now) = (State::new(Arc::new(Notices::default())), Instant::now());
        let tickets = (0..batches).map(|_| state.submit(Bytes::new(), [0; 4], now));
        Self {
            tickets: tickets.collect(),
            state,
            now,
        }
    }

    fn take(&mut self, stream: StreamNumber) -> Option<u64> {
        let assignment = self.state.assign(stream, self.now);
        assignment.map(|assignment| assignment.number.0)
    }

    fn settle(&mut self, stream: StreamNumber, number: u64, value: f32) {
        let reply = self.state.settle(stream, BatchNumber(number), self.now);
        if let Some(reply) = reply {
            reply.send(Ok(targets(value))).unwrap();
        }
    }

    /// Lets the time pass after which the head of the line is overdue, and looks.
    fn hedge_late(&mut self) {
        let (again, offered) = self.state.hedge(self.now);
        assert!(!offered, "hedged too early");
        self.now += again.unwrap();
        self.state.hedge(self.now);
    }
}

#[test]
fn a_straggler_at_the_head_is_hedged_and_the_first_answer_wins() {
    let [slow, quick, idle] = STREAMS;
    let mut scene = Scene::new(4);
    assert_eq!([scene.take(slow), scene.take(slow)], [Some(0), Some(1)]);
    for number in [2, 3] {
        assert_eq!(scene.take(quick), Some(number));
        scene.settle(quick, number, 1.0);
    }
    scene.hedge_late();
    assert_eq!(scene.take(slow), None, "a teacher hedges itself");
    assert_eq!([scene.take(quick), scene.take(quick)], [Some(0), Some(1)]);
    scene.state.hedge(scene.now);
    assert_eq!(scene.take(idle), None, "a batch goes to three teachers");
    scene.settle(quick, 0, 1.0);
    scene.settle(slow, 0, 2.0);
    scene.settle(slow, 1, 2.0);
    scene.settle(quick, 1, 1.0);
    for (ticket, value) in scene.tickets.iter_mut().zip([1.0, 2.0, 1.0, 1.0]) {
        assert_eq!(ticket.try_recv().unwrap(), Ok(targets(value)));
    }
    let counts = scene.state.counts;
    assert_eq!((counts.hedged, counts.dropped, counts.answered), (2, 2, 4));
}

#[test]
fn other_stragglers_wait_for_their_turn() {
    let [head, later, idle] = STREAMS;
    let mut scene = Scene::new(2);
    assert_eq!([scene.take(head), scene.take(later)], [Some(0), Some(1)]);
    scene.hedge_late();
    assert_eq!([scene.take(idle), scene.take(idle)], [Some(0), None]);
    scene.settle(idle, 0, 1.0);
    let (_, offered) = scene.state.hedge(scene.now);
    assert!(offered, "its turn has come");
    assert_eq!(scene.take(idle), Some(1));
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

#[test]
fn stalled_is_the_time_without_an_answer() {
    let second = Duration::from_secs(1);
    let mut scene = Scene::new(0);
    assert_eq!(scene.state.stalled_for(scene.now + second), Duration::ZERO);
    scene = Scene::new(2);
    assert_eq!(scene.state.stalled_for(scene.now + second), second);
    assert_eq!(
        [scene.take(STREAMS[0]), scene.take(STREAMS[0])],
        [Some(0), Some(1)]
    );
    scene.now += second;
    scene.settle(STREAMS[0], 1, 1.0);
    assert_eq!(scene.state.stalled_for(scene.now), Duration::ZERO);
    assert_eq!(scene.state.stalled_for(scene.now + second), second);
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
