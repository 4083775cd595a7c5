//! A TCP relay to a server of HTTP/1.1 that a test stops at a chosen request, or that throttles its clients.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::throttling::Throttling;

/// The moment of a request at which a relay stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopAt {
    /// Half of the request has reached the server.
    HalfRequest,
    /// The server has carried out the request, and nothing of its reply has reached the client.
    Reply,
}

/// How slowly bytes pass in both directions.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Bytes that pass together.
    pub piece: usize,
    /// The pause after each piece.
    pub pause: Duration,
}

/// Forwards the connections of clients that send their next request only after the reply to the last one.
pub struct RequestRelay {
    pub address: SocketAddr,
    gate: Arc<Gate>,
}

/// Where all connections of a relay stop.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    resumed: Condvar,
}

#[derive(Default)]
struct State {
    /// Requests that have begun since the test chose one of them.
    requests: usize,
    chosen: Option<(usize, StopAt)>,
    is_stopped: bool,
    /// What becomes of the next requests: an answer of the relay, or `None` for those that it forwards.
    answers: VecDeque<Option<Throttling>>,
    /// Requests that the relay has answered.
    throttled: usize,
    pace: Option<Pace>,
}

impl RequestRelay {
    /// Starts a relay to `target`.
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Self {
            address: listener.local_addr().unwrap(),
            gate: Arc::default(),
        };
        let gate = Arc::clone(&relay.gate);
        thread::spawn(move || {
            for near in listener.incoming() {
                let near = near.unwrap();
                // Without its server, the client's connection is closed.
                if let Ok(far) = TcpStream::connect(target) {
                    Connection::start(near, far, &gate);
                }
            }
        });
        relay
    }

    /// Stops at the `request`th request from now on, counted from 1.
    pub fn stop_at(&self, request: usize, moment: StopAt) {
        let mut state = self.gate.state.lock().unwrap();
        state.requests = 0;
        state.chosen = Some((request, moment));
    }

    /// Whether the chosen moment has come. Since then, no byte passes.
    pub fn is_stopped(&self) -> bool {
        self.gate.state.lock().unwrap().is_stopped
    }

    /// Answers `count` of the next requests itself, two of every three, as a store with too many requests: with 503 or 429,
    /// with and without `Retry-After`.
    pub fn throttle(&self, count: usize) {
        let mut state = self.gate.state.lock().unwrap();
        for (n, answer) in Throttling::ALL.into_iter().cycle().take(count).enumerate() {
            state.answers.push_back(Some(answer));
            if n % 2 == 1 {
                state.answers.push_back(None);
            }
        }
    }

    /// The number of requests that the relay has answered itself.
    pub fn throttled(&self) -> usize {
        self.gate.state.lock().unwrap().throttled
    }

    /// Forwards bytes slowly from now on.
    pub fn slow_down(&self, pace: Pace) {
        self.gate.state.lock().unwrap().pace = Some(pace);
    }

    /// Closes the connections with bytes that were held back, and forwards what comes from now on.
    pub fn resume(&self) {
        let mut state = self.gate.state.lock().unwrap();
        state.chosen = None;
        state.is_stopped = false;
        self.gate.resumed.notify_all();
    }
}

impl Gate {
    fn next_request(&self) -> usize {
        let mut state = self.state.lock().unwrap();
        state.requests += 1;
        state.requests
    }

    fn is_chosen(&self, request: usize, moment: StopAt) -> bool {
        self.state.lock().unwrap().chosen == Some((request, moment))
    }

    /// The relay's own answer to a request that begins, if it does not forward it.
    fn next_answer(&self) -> Option<Throttling> {
        let mut state = self.state.lock().unwrap();
        let answer = state.answers.pop_front().flatten();
        state.throttled += usize::from(answer.is_some());
        answer
    }

    /// Writes at the pace of the relay.
    fn write(&self, mut end: &TcpStream, bytes: &[u8]) -> io::Result<()> {
        let pace = self.state.lock().unwrap().pace;
        let Some(Pace { piece, pause }) = pace else {
            return end.write_all(bytes);
        };
        for piece in bytes.chunks(piece) {
            end.write_all(piece)?;
            thread::sleep(pause);
        }
        Ok(())
    }

    fn stop(&self) {
        self.state.lock().unwrap().is_stopped = true;
    }

    /// Waits while the relay is stopped. Returns whether it was.
    fn holds(&self) -> bool {
        let state = self.state.lock().unwrap();
        if !state.is_stopped {
            return false;
        }
        let resumed = self.resumed.wait_while(state, |state| state.is_stopped);
        drop(resumed.unwrap());
        true
    }
}

/// One connection of a client, `near`, and the one to the server for it, `far`.
struct Connection {
    near: TcpStream,
    far: TcpStream,
    gate: Arc<Gate>,
    /// The number of its last request.
    request: AtomicUsize,
    /// Whether the server has begun to reply to that request.
    is_answered: AtomicBool,
}

impl Connection {
    fn start(near: TcpStream, far: TcpStream, gate: &Arc<Gate>) {
        near.set_nodelay(true).unwrap();
        far.set_nodelay(true).unwrap();
        let connection = Arc::new(Self {
            near,
            far,
            gate: Arc::clone(gate),
            request: AtomicUsize::new(0),
            is_answered: AtomicBool::new(true),
        });
        let replies = Arc::clone(&connection);
        thread::spawn(move || connection.forward_requests());
        thread::spawn(move || replies.forward_replies());
    }

    fn forward_requests(&self) {
        let mut buffer = vec![0; 64 << 10];
        // Either end may close the connection at any time.
        while let Ok(count @ 1..) = (&self.near).read(&mut buffer) {
            if self.is_answered.swap(false, Ordering::SeqCst) {
                let request = self.gate.next_request();
                self.request.store(request, Ordering::SeqCst);
                if let Some(answer) = self.gate.next_answer() {
                    // The client may have gone.
                    let _ = answer.answer(&self.near, &buffer[..count]);
                    break;
                }
                if self.gate.is_chosen(request, StopAt::HalfRequest) {
                    // If the server has gone, it gets no part of the request.
                    let _ = (&self.far).write_all(&buffer[..count / 2]);
                    self.gate.stop();
                }
            }
            if self.gate.holds() || self.gate.write(&self.far, &buffer[..count]).is_err() {
                break;
            }
        }
        self.close();
    }

    fn forward_replies(&self) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = (&self.far).read(&mut buffer) {
            self.is_answered.store(true, Ordering::SeqCst);
            let request = self.request.load(Ordering::SeqCst);
            if self.gate.is_chosen(request, StopAt::Reply) {
                self.gate.stop();
            }
            if self.gate.holds() || self.gate.write(&self.near, &buffer[..count]).is_err() {
                break;
            }
        }
        self.close();
    }

    /// Closes both ends, so that the other thread ends too.
    fn close(&self) {
        for end in [&self.near, &self.far] {
            // It may be closed already.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}
