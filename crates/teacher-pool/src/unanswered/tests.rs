use soft_targets::{Encoder, Encoding};

use super::*;
use crate::observer::tests::Notices;

fn targets(value: f32) -> SoftTargets {
    Encoder::default()
        .encode(Encoding::F32, &[value], 1)
        .unwrap()
}

/// What happens at times that a test chooses.
struct Scene {
    state: UnansweredBatches,
    now: Instant,
    tickets: Vec<oneshot::Receiver<Answer>>,
}

const STREAMS: [StreamNumber; 3] = [StreamNumber(0), StreamNumber(1), StreamNumber(2)];

impl Scene {
    fn new(batches: usize) -> Self {
        let (mut state, now) = (
            UnansweredBatches::new(Arc::new(Notices::default())),
            Instant::now(),
        );
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
