//! Time, to the second: connections in memory, and a clock that runs only when all wait.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use async_trait::async_trait;
use tokio::{
    io::{DuplexStream, duplex},
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::*;
use crate::{Bytes, HeadersView, HookAddress, Readiness, Reply, Webhooks, slots::Slots};

const POST: &str = "POST /hooks/shop/github HTTP/1.1\r\nhost: a\r\n";

/// Judges by the body: how many milliseconds to think, and what to say. Counts how often it is asked whether
/// it is ready, and panics the third time.
#[derive(Debug, Default)]
struct Thinker(AtomicUsize);

#[async_trait]
impl Webhooks for Thinker {
    async fn deliver(&self, _: HookAddress, _: HeadersView, body: Bytes) -> Reply {
        let Some((thought, verdict)) = str::from_utf8(&body).unwrap().split_once(' ') else {
            return Reply::Accepted { why: "so it is".to_owned() };
        };
        sleep(Duration::from_millis(thought.parse().unwrap())).await;
        match verdict {
            "unknown" => Reply::Unknown,
            "refused" => Reply::Refused,
            _ => Reply::Ignored { why: "so it is".to_owned() },
        }
    }
}

#[async_trait]
impl Readiness for Thinker {
    async fn ready(&self) -> Result<(), String> {
        assert_ne!(self.0.fetch_add(1, Relaxed), 2, "the third time");
        Ok(())
    }
}

struct Scene {
    thinker: Arc<Thinker>,
    common: Arc<Common>,
    slots: Arc<Slots>,
    bodies: Arc<Bodies>,
}

impl Scene {
    fn new(limits: Limits) -> Self {
        let thinker = Arc::new(Thinker::default());
        let app = App { webhooks: thinker.clone(), readiness: thinker.clone() };
        let slots = Arc::new(Slots::new(&limits));
        let bodies = Arc::new(Bodies::new(&limits));
        let common = Common::new(app, limits, Arc::clone(&bodies), CancellationToken::new());
        Self { thinker, common: Arc::new(common), slots, bodies }
    }

    /// Connects over a pipe that holds so many bytes each way.
    fn connect(&self, pipe: usize) -> (DuplexStream, JoinHandle<()>) {
        let (ours, theirs) = duplex(pipe);
        let slot = self.slots.take(None).unwrap();
        let served = tokio::spawn(serve(Box::new(theirs), slot, Arc::clone(&self.common)));
        (ours, served)
    }
}

/// Sends `text` and returns what came until the other side closed, and how long that took.
async fn ask(stream: &mut DuplexStream, text: &str) -> (String, Duration) {
    let begun = Instant::now();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer, begun.elapsed())
}

/// Sends a byte each `pause` until nobody takes them any more; returns how long that went on.
async fn drip(stream: &mut DuplexStream, pause: Duration) -> Duration {
    let begun = Instant::now();
    while stream.write_all(b"a").await.is_ok() {
        sleep(pause).await;
    }
    begun.elapsed()
}

fn seconds(range: std::ops::RangeInclusive<u64>) -> std::ops::RangeInclusive<Duration> {
    Duration::from_secs(*range.start())..=Duration::from_secs(*range.end())
}

#[tokio::test(start_paused = true)]
async fn headers_that_drip_in_have_ten_seconds() {
    let scene = Scene::new(Limits::default());
    let (mut stream, _served) = scene.connect(4096);
    stream.write_all(POST.as_bytes()).await.unwrap();
    let lasted = drip(&mut stream, Duration::from_secs(1)).await;
    assert!(seconds(10..=11).contains(&lasted), "{lasted:?}");
    assert_eq!(scene.slots.taken(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_has_ten_seconds() {
    let scene = Scene::new(Limits::default());
    let (mut stream, _served) = scene.connect(4096);
    let (answer, lasted) = ask(&mut stream, "").await;
    assert_eq!(answer, "");
    assert_eq!(lasted.as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn between_requests_there_are_thirty_seconds() {
    let scene = Scene::new(Limits::default());
    let (mut stream, _served) = scene.connect(4096);
    let (answer, lasted) = ask(&mut stream, "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(lasted.as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn the_next_requests_headers_have_ten_seconds_from_their_first_byte() {
    let scene = Scene::new(Limits::default());
    let (mut stream, _served) = scene.connect(4096);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    sleep(Duration::from_secs(25)).await;
    let (_, lasted) = ask(&mut stream, "GET /heal").await;
    assert_eq!(lasted.as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn when_places_get_scarce_who_waits_longest_makes_room() {
    let scene = Scene::new(Limits { connections: 4, ..Limits::default() });
    let (mut first, _) = scene.connect(64);
    sleep(Duration::from_millis(5)).await;
    let (mut second, _) = scene.connect(64);
    let _others = [scene.connect(64), scene.connect(64)];
    let begun = Instant::now();
    let (_, lasted) = ask(&mut first, POST.get(..20).unwrap()).await;
    assert!(lasted <= Duration::from_secs(1), "{lasted:?}");
    // That is room enough: the others have their usual time.
    ask(&mut second, "").await;
    assert!(seconds(9..=10).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn when_places_are_scarce_nobody_waits_long() {
    let scene = Scene::new(Limits { connections: 1, ..Limits::default() });
    let (mut only, _) = scene.connect(64);
    let (_, lasted) = ask(&mut only, POST.get(..20).unwrap()).await;
    assert_eq!(lasted.as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_places_get_scarce_a_body_that_drips_makes_room() {
    let scene = Scene::new(Limits { connections: 4, ..Limits::default() });
    let (mut slow, _served) = scene.connect(4096);
    slow.write_all(format!("{POST}content-length: 1000\r\n\r\n").as_bytes()).await.unwrap();
    sleep(Duration::from_millis(2500)).await;
    let _others = [scene.connect(64), scene.connect(64), scene.connect(64)];
    let begun = Instant::now();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(begun.elapsed() <= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_in_is_given_up() {
    let scene = Scene::new(Limits::default());
    let (mut stream, _served) = scene.connect(4096);
    stream.write_all(format!("{POST}content-length: 1000\r\n\r\n").as_bytes()).await.unwrap();
    let lasted = drip(&mut stream, Duration::from_millis(500)).await;
    // The grace, and then the time the answer is left to be read in.
    assert!(seconds(5..=8).contains(&lasted), "{lasted:?}");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(scene.bodies.held_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_keeps_its_rate_has_thirty_seconds() {
    let scene = Scene::new(Limits::default());
    let (mut stream, _served) = scene.connect(4096);
    stream.write_all(format!("{POST}content-length: 1000000\r\n\r\n").as_bytes()).await.unwrap();
    let begun = Instant::now();
    while stream.write_all(&[b'a'; 2048]).await.is_ok() {
        assert!(scene.bodies.held_bytes() < 256 * 1024, "memory follows what has come");
        sleep(Duration::from_secs(1)).await;
    }
    assert!(seconds(30..=33).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_the_answer_has_ten_seconds() {
    let scene = Scene::new(Limits::default());
    let (mut stream, served) = scene.connect(64);
    let begun = Instant::now();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    served.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn who_reads_the_answer_byte_by_byte_has_ten_seconds() {
    let scene = Scene::new(Limits::default());
    let (mut stream, served) = scene.connect(64);
    let begun = Instant::now();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    while stream.read_u8().await.is_ok() {
        sleep(Duration::from_millis(500)).await;
    }
    assert!(served.is_finished());
    assert!(begun.elapsed().as_secs() > 10, "what was sent by then could still be read");
    assert_eq!(scene.slots.taken(), 0);
}

#[tokio::test(start_paused = true)]
async fn all_refusals_take_the_same_time() {
    let scene = Scene::new(Limits::default());
    for (path, body) in [
        ("shop/github", "0 unknown"),
        ("shop/github", "40 unknown"),
        ("shop/github", "0 refused"),
        ("shop/github", "40 refused"),
        ("-no-name/github", "0 x"),
        ("shop/%ff", "0 x"),
    ] {
        let (mut stream, _served) = scene.connect(4096);
        let begun = Instant::now();
        let length = body.len();
        let request = format!("POST /hooks/{path} HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 401", "{path} {body}");
        assert_eq!(begun.elapsed().as_millis(), 50, "{path} {body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_delivery_is_not_worked_on_for_ever() {
    let scene = Scene::new(Limits::default());
    let (mut stream, served) = scene.connect(4096);
    let begun = Instant::now();
    let request = format!("{POST}content-length: 9\r\nconnection: close\r\n\r\n3600000 x");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 503");
    assert_eq!(begun.elapsed().as_secs(), 20);
    drop(stream);
    served.await.unwrap();
    assert_eq!((scene.slots.taken(), scene.bodies.held_bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_delivery_outlives_its_connection_and_keeps_its_place() {
    let scene = Scene::new(Limits::default());
    let (mut stream, served) = scene.connect(4096);
    let request = format!("{POST}content-length: 6\r\n\r\n9000 x");
    stream.write_all(request.as_bytes()).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    drop(stream);
    served.await.unwrap();
    assert_eq!(scene.slots.taken(), 1);
    assert!(scene.bodies.held_bytes() > 0);
    sleep(Duration::from_secs(9)).await;
    assert_eq!((scene.slots.taken(), scene.bodies.held_bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn at_the_end_nobody_waits_for_those_who_are_silent() {
    let scene = Scene::new(Limits::default());
    let (_silent, _) = scene.connect(4096);
    let (mut between, _) = scene.connect(4096);
    between.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let (mut begun, _) = scene.connect(4096);
    begun.write_all(b"GET /healthz HTTP/1.1\r\nho").await.unwrap();
    sleep(Duration::from_millis(1)).await;
    scene.common.shutdown.cancel();
    let asked = Instant::now();
    scene.slots.all_free().await;
    assert!(asked.elapsed() <= LINGER.0, "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn readiness_is_found_out_once_a_second() {
    let scene = Scene::new(Limits::default());
    for (second, expected) in ["200", "200", "503"].iter().enumerate() {
        for _ in 0..10 {
            let (mut stream, _served) = scene.connect(4096);
            stream.write_all(b"GET /readyz HTTP/1.1\r\n\r\n").await.unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).await.unwrap();
            assert_eq!(&status, format!("HTTP/1.1 {expected}").as_bytes());
        }
        assert_eq!(scene.thinker.0.load(Relaxed), second + 1);
        sleep(Duration::from_secs(1)).await;
    }
}
