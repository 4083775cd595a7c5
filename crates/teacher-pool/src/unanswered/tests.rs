use soft_targets::{Encoder, Encoding};

use super::*;
use crate::observer::tests::Recorder;

fn targets(value: f32) -> SoftTargets {
    Encoder::default()
        .encode(Encoding::F32, &[value], 1)
        .unwrap()
}

/// Batches, and a clock that a test moves.
struct Scene {
    unanswered: UnansweredBatches,
    recorder: Arc<Recorder>,
    now: Instant,
    tickets: Vec<oneshot::Receiver<Answer>>,
}

const STREAMS: [StreamNumber; 3] = [StreamNumber(0), StreamNumber(1), StreamNumber(2)];

impl Scene {
    fn new(batches: usize) -> Self {
        let recorder = Arc::new(Recorder::default());
        let mut unanswered = UnansweredBatches::new(recorder.clone());
        let now = Instant::now();
        let tickets = (0..batches).map(|_| unanswered.submit(TeacherBatch::default(), now));
        Self {
            tickets: tickets.collect(),
            unanswered,
            recorder,
            now,
        }
    }

    fn assign(&mut self, stream: StreamNumber) -> Option<u64> {
        let assignment = self.unanswered.assign(stream, self.now);
        assignment.map(|assignment| assignment.number.0)
    }

    fn resolve(&mut self, stream: StreamNumber, number: u64, value: f32) {
        let number = BatchNumber(number);
        if let Some(reply) = self.unanswered.resolve(stream, number, self.now) {
            reply.send(Ok(targets(value))).unwrap();
        }
    }

    /// Moves the clock until the oldest batch is overdue, and hedges.
    fn hedge_when_overdue(&mut self) {
        let (check_after, offered) = self.unanswered.hedge(self.now);
        assert!(!offered, "hedged too early");
        self.now += check_after.unwrap();
        self.unanswered.hedge(self.now);
    }
}

#[test]
fn an_overdue_oldest_batch_is_hedged_and_the_first_answer_wins() {
    let [slow, quick, idle] = STREAMS;
    let mut scene = Scene::new(4);
    assert_eq!([scene.assign(slow), scene.assign(slow)], [Some(0), Some(1)]);
    for number in [2, 3] {
        assert_eq!(scene.assign(quick), Some(number));
        scene.resolve(quick, number, 1.0);
    }
    scene.hedge_when_overdue();
    assert_eq!(scene.assign(slow), None, "a teacher hedges itself");
    assert_eq!(
        [scene.assign(quick), scene.assign(quick)],
        [Some(0), Some(1)]
    );
    scene.unanswered.hedge(scene.now);
    assert_eq!(scene.assign(idle), None, "a batch goes to three teachers");
    scene.resolve(quick, 0, 1.0);
    scene.resolve(slow, 0, 2.0);
    scene.resolve(slow, 1, 2.0);
    scene.resolve(quick, 1, 1.0);
    for (ticket, value) in scene.tickets.iter_mut().zip([1.0, 2.0, 1.0, 1.0]) {
        assert_eq!(ticket.try_recv().unwrap(), Ok(targets(value)));
    }
    let recorder = &scene.recorder;
    assert_eq!((recorder.hedged(), recorder.dropped()), (2, 2));
    assert_eq!(recorder.unfinished(), 0);
}

#[test]
fn only_the_stream_with_the_oldest_batch_is_hedged() {
    let [oldest, later, idle] = STREAMS;
    let mut scene = Scene::new(2);
    assert_eq!(
        [scene.assign(oldest), scene.assign(later)],
        [Some(0), Some(1)]
    );
    scene.hedge_when_overdue();
    assert_eq!([scene.assign(idle), scene.assign(idle)], [Some(0), None]);
    scene.resolve(idle, 0, 1.0);
    let (_, offered) = scene.unanswered.hedge(scene.now);
    assert!(offered, "the second batch is now the oldest");
    assert_eq!(scene.assign(idle), Some(1));
}

#[test]
fn stalled_is_the_time_without_an_answer() {
    let second = Duration::from_secs(1);
    let mut scene = Scene::new(0);
    assert_eq!(
        scene.unanswered.stalled_for(scene.now + second),
        Duration::ZERO
    );
    scene = Scene::new(2);
    assert_eq!(scene.unanswered.stalled_for(scene.now + second), second);
    assert_eq!(
        [scene.assign(STREAMS[0]), scene.assign(STREAMS[0])],
        [Some(0), Some(1)]
    );
    scene.now += second;
    scene.resolve(STREAMS[0], 1, 1.0);
    assert_eq!(scene.unanswered.stalled_for(scene.now), Duration::ZERO);
    assert_eq!(scene.unanswered.stalled_for(scene.now + second), second);
}
