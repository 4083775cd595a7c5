use std::sync::atomic::AtomicUsize;

use axum::routing::{get, post};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
    time::timeout,
};

use super::*;

/// Longer than any step of these tests takes; only a hang exceeds it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server under test.
struct Scene {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    server: JoinHandle<()>,
    /// Number of requests of `/work` that have started, and of those that were dropped.
    begun: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
    /// Each permit lets one request of `/work` end.
    finish: Arc<Semaphore>,
}

struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Scene {
    async fn start(connections: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (begun, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let finish = Arc::new(Semaphore::new(0));
        let work = {
            let (begun, dropped, finish) = (begun.clone(), dropped.clone(), finish.clone());
            async move || {
                begun.fetch_add(1, Ordering::SeqCst);
                let guard = Dropped(dropped);
                finish.acquire().await.unwrap().forget();
                std::mem::forget(guard);
                "worked"
            }
        };
        let router = Router::new()
            .route("/", get(async || "here"))
            .route("/echo", post(async |body: String| body))
            .route("/work", get(work))
            .route("/v2/health/live", get(async || "alive"));
        let limits = ConnectionLimits {
            connections,
            header_time: PATIENCE * 10,
        };
        let stop = CancellationToken::new();
        let listener = Listener::new(listener, "http", None);
        let server = tokio::spawn(serve(listener, router, limits, stop.clone()));
        Self {
            address,
            stop,
            server,
            begun,
            dropped,
            finish,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn until_begun(&self, count: usize) {
        eventually(|| self.begun.load(Ordering::SeqCst) >= count).await;
    }

    /// Stops the server, which must end although its connections stay open.
    async fn stop(self) {
        self.stop.cancel();
        let ended = timeout(PATIENCE, self.server).await;
        ended.expect("the server ends").unwrap();
    }
}

async fn eventually(mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("in time");
}

fn get_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")
}

async fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    // After a reset, the answer is missing or incomplete.
    let _ = read.expect("the connection ends");
    answer
}

/// Reads until the text ends with `end`. The connection stays open.
async fn answer_until(stream: &mut TcpStream, end: &str) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(end.as_bytes()) {
        let mut bytes = [0; 1024];
        let read = timeout(PATIENCE, stream.read(&mut bytes)).await;
        let read = read.expect("it is answered").unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&bytes[..read]);
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_client_that_closes_its_half_is_answered() {
    let scene = Scene::start(64).await;
    let body = "POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello";
    for _ in 0..50 {
        for (request, expected) in [(get_request("/"), "here"), (body.to_owned(), "hello")] {
            let mut stream = scene.send(&request).await;
            stream.shutdown().await.unwrap();
            let answer = answer(stream).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(answer.ends_with(expected), "{answer}");
        }
    }
    // The other half of a body never arrives.
    let mut stream = scene.send(&body[..body.len() - 2]).await;
    stream.shutdown().await.unwrap();
    let answer = answer(stream).await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    scene.stop().await;
}

#[tokio::test]
async fn a_half_closed_client_is_answered_and_work_is_dropped_when_the_connection_fails() {
    let scene = Scene::start(64).await;
    let mut half = scene.send(&get_request("/work")).await;
    let gone = scene.send(&get_request("/work")).await;
    let mut half_and_gone = scene.send(&get_request("/work")).await;
    scene.until_begun(3).await;
    half.shutdown().await.unwrap();
    half_and_gone.shutdown().await.unwrap();
    for stream in [gone, half_and_gone] {
        // A reset, as when a process ends before it reads its answers, or a load balancer times out.
        SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(stream);
    }
    eventually(|| scene.dropped.load(Ordering::SeqCst) == 2).await;
    scene.finish.add_permits(1);
    let answer = answer(half).await;
    assert!(answer.ends_with("worked"), "{answer}");
    scene.stop().await;
}

#[tokio::test]
async fn a_stop_takes_as_long_as_the_work() {
    let scene = Scene::start(64).await;
    let mut open = vec![
        scene.connect().await,
        scene.send("GET / HT").await,
        scene
            .send("POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\nhal")
            .await,
    ];
    let mut idle = scene.send(&get_request("/")).await;
    answer_until(&mut idle, "here").await;
    open.push(idle);
    let working = scene.send(&get_request("/work")).await;
    scene.until_begun(1).await;
    scene.stop.cancel();
    // The server answers the incomplete request with an error.
    let half = open.remove(2);
    let refused = answer(half).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("SHUTTING_DOWN"), "{refused}");
    assert!(
        !scene.server.is_finished(),
        "the server stopped during a request"
    );
    scene.finish.add_permits(1);
    let done = answer(working).await;
    assert!(done.ends_with("worked"), "{done}");
    scene.stop().await;
    drop(open);
}

#[tokio::test]
async fn idle_connections_give_way_on_a_full_port() {
    let scene = Scene::start(2).await;
    let mut idle = Vec::new();
    for _ in 0..5 {
        let mut stream = scene.send(&get_request("/")).await;
        answer_until(&mut stream, "here").await;
        idle.push(stream);
    }
    // An idle connection also gives way to one that never finishes its request.
    let _half = scene.send("GET / HT").await;
    let mut next = scene.send(&get_request("/")).await;
    answer_until(&mut next, "here").await;
    // The connection that was idle for the longest time was closed, the newest was not.
    let closed = answer(idle.remove(0)).await;
    assert_eq!(closed, "");
    scene.stop().await;
}

#[tokio::test]
async fn probes_are_answered_on_a_port_full_of_work() {
    let scene = Scene::start(2).await;
    let mut working = Vec::new();
    for count in 1..=2 {
        working.push(scene.send(&get_request("/work")).await);
        scene.until_begun(count).await;
    }
    for _ in 0..40 {
        let mut probe = scene.send(&get_request("/v2/health/live")).await;
        answer_until(&mut probe, "alive").await;
        // The connection stays open.
        working.push(probe);
    }
    let refused = answer(scene.send(&get_request("/")).await).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("PORT_FULL"), "{refused}");
    scene.finish.add_permits(2);
    answer_until(&mut working[0], "worked").await;
    answer_until(&mut working[1], "worked").await;
    let mut next = scene.send(&get_request("/")).await;
    answer_until(&mut next, "here").await;
    scene.stop().await;
}
