//! The local socket, with real sockets.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use eeveon_core::{Diagnose as _, Untrusted};
use eeveon_daemon::{
    Answer, Cancelled, Fate, Freeze, News, Project, RequestId, Windows,
    control::{Client, Control, SOCKET},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    common::{cancel, project, push},
    runtime::world::{Ending, Scene, simple},
};

/// A daemon that listens in a folder.
struct Post {
    scene: Scene,
    folder: TempDir,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Post {
    async fn new(scene: Scene) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let control = Control::bind(folder.path()).unwrap();
        Self::with(scene, folder, control).await
    }

    async fn with(mut scene: Scene, folder: TempDir, control: Control) -> Self {
        let daemon = scene.load().await.unwrap();
        scene.live(daemon);
        let stop = CancellationToken::new();
        let serving = tokio::spawn(control.serve(scene.handle().clone(), stop.clone()));
        Self { scene, folder, stop, serving }
    }

    async fn client(&self) -> Client {
        Client::connect(self.folder.path()).await.expect("nobody listens")
    }

    /// Says something, and returns what is answered until it is hung up.
    async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(self.folder.path().join(SOCKET)).await.unwrap();
        // It may be hung up on before all is said.
        let _hung_up = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _hung_up = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    /// Lets nobody speak any more, and waits until all who did were answered.
    async fn close(self) -> Scene {
        self.stop.cancel();
        self.serving.await.unwrap();
        self.scene
    }
}

fn one() -> Scene {
    Scene::empty([simple("a")])
}

fn line(version: u32, request: &Value) -> Vec<u8> {
    format!("{}\n", json!({ "version": version, "request": request })).into_bytes()
}

#[tokio::test]
async fn a_command_asks_and_follows_to_the_end() {
    let post = Post::new(one()).await;
    let (request, answer, mut follow) = post.client().await.ask(push("a", 1, 0)).await.unwrap();
    assert_eq!((request, answer), (RequestId(1), Answer::Queued { position: 1 }));
    assert_eq!(follow.next().await.unwrap(), News::Started);
    assert!(matches!(follow.next().await.unwrap(), News::Opened(_)));
    post.scene.finish(1, Ending::Live);
    let News::Ended(end) = follow.next().await.unwrap() else { panic!("it goes on") };
    assert_eq!(end.fate, Fate::Ended);
    assert!(end.done.unwrap().went_live);
    assert_eq!(follow.next().await.unwrap_err().code(), "daemon/ended");
}

#[tokio::test]
async fn everything_else_is_answered_at_once() {
    let mut scene = one();
    scene.limits.running = 1;
    let post = Post::new(scene).await;
    let (_, _, mut running) = post.client().await.ask(push("a", 1, 0)).await.unwrap();
    let (waits, ..) = post.client().await.ask(push("b", 1, 0)).await.unwrap();
    assert_eq!(running.next().await.unwrap(), News::Started);
    let overview = post.client().await.overview().await.unwrap();
    assert_eq!(overview.running, [(project("a"), RequestId(1))]);
    assert_eq!(overview.waiting, [(project("b"), waits)]);
    assert_eq!(post.client().await.cancel(cancel(waits.0)).await.unwrap(), Cancelled::Cancelled);
    assert_eq!(post.client().await.cancel(cancel(waits.0)).await.unwrap(), Cancelled::Unknown);
    assert_eq!(post.client().await.lift(project("a")).await.unwrap(), 0);
    post.client().await.reload().await.unwrap();
    let mut long = push("a", 1, 0);
    long.reason = Some(Untrusted::from("x".repeat(2000)));
    let refused = post.client().await.ask(long).await.unwrap_err();
    assert_eq!(refused.code(), "daemon/refused");
}

#[tokio::test]
async fn an_answer_may_be_longer_than_a_question() {
    let frozen = |number: u32| {
        let mut windows = Windows::default();
        windows.set_freeze(Some(Freeze { reason: Untrusted::from("x".repeat(500)), until: None }));
        Project { windows, ..simple(&format!("p{number}")) }
    };
    let post = Post::new(Scene::empty((0..300).map(frozen))).await;
    let held = post.client().await.overview().await.unwrap().held;
    assert_eq!(held.len(), 300);
    assert!(serde_json::to_string(&held).unwrap().len() > 100_000);
}

#[tokio::test]
async fn a_folder_may_lie_as_deep_as_it_likes() {
    let folder = tempfile::tempdir().unwrap();
    let deep: PathBuf = (0..20).fold(folder.path().to_owned(), |path, _| path.join("a-folder-in-a-folder"));
    assert!(deep.as_os_str().len() > 300);
    fs::create_dir_all(&deep).unwrap();
    let mut scene = one();
    let daemon = scene.load().await.unwrap();
    scene.live(daemon);
    let stop = CancellationToken::new();
    let serving = tokio::spawn(Control::bind(&deep).unwrap().serve(scene.handle().clone(), stop.clone()));
    let client = Client::connect(&deep).await.unwrap();
    assert_eq!(client.overview().await.unwrap().running, []);
    stop.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn only_its_owner_reaches_it_and_a_dead_one_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join(SOCKET);
    assert!(Client::connect(&folder.path().join("nowhere")).await.is_none());
    assert!(Client::connect(folder.path()).await.is_none());
    for _ in 0..2 {
        drop(Control::bind(folder.path()).unwrap());
        let found = fs::symlink_metadata(&socket).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        assert!(Client::connect(folder.path()).await.is_none(), "nobody listens");
    }
    let post = Post::with(one(), folder, Control::bind(socket.parent().unwrap()).unwrap()).await;
    post.client().await.overview().await.unwrap();
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join(SOCKET);
    let refused = |path: &Path| {
        let error = Control::bind(path).unwrap_err();
        assert_eq!(error.code(), "daemon/socket");
        error.to_string()
    };
    fs::write(&socket, "precious").unwrap();
    assert!(refused(folder.path()).contains("something else has its name"));
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
    let link = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(&socket, link.path().join(SOCKET)).unwrap();
    assert!(refused(link.path()).contains("something else has its name"));
    let inside = tempfile::tempdir().unwrap();
    fs::create_dir(inside.path().join(SOCKET)).unwrap();
    assert!(refused(inside.path()).contains("something else has its name"));
    assert!(refused(&folder.path().join("nowhere")).contains("No such file"));
    // A socket of somebody else, if we may make one.
    let other = tempfile::tempdir().unwrap();
    drop(UnixListener::bind(other.path().join(SOCKET)).unwrap());
    if std::os::unix::fs::chown(other.path().join(SOCKET), Some(12_345), None).is_ok() {
        assert!(refused(other.path()).contains("another user"));
    }
}

#[tokio::test]
async fn who_goes_away_is_served_all_the_same() {
    let post = Post::new(one()).await;
    let (request, _, follow) = post.client().await.ask(push("a", 1, 0)).await.unwrap();
    drop(follow);
    let mut news = post.scene.handle().follow(request).await.unwrap();
    while !matches!(news.recv().await.unwrap(), News::Opened(_)) {}
    let scene = post.close().await;
    scene.finish(1, Ending::Live);
    let Some(News::Ended(end)) = news.recv().await else { panic!("it goes on") };
    assert!(end.done.unwrap().went_live);
}

#[tokio::test]
async fn nothing_is_taken_from_who_went_away_before_the_daemon_looked() {
    let folder = tempfile::tempdir().unwrap();
    let control = Control::bind(folder.path()).unwrap();
    let mut stream = UnixStream::connect(folder.path().join(SOCKET)).await.unwrap();
    stream.write_all(&line(2, &json!({ "ask": push("a", 1, 0) }))).await.unwrap();
    drop(stream);
    let post = Post::with(one(), folder, control).await;
    // The next one is heard later.
    post.client().await.overview().await.unwrap();
    let scene = post.close().await;
    let overview = scene.handle().overview().await.unwrap();
    assert_eq!((overview.waiting, overview.running), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn who_talks_nonsense_is_hung_up_on() {
    let post = Post::new(one()).await;
    let overview = json!("overview");
    assert!(post.say(&line(2, &overview)).await.contains("\"projects\":1"));
    for nonsense in [
        "\n",
        "GET / HTTP/1.1\r\n\r\n",
        "{}\n",
        "{\"version\":2}\n",
        "{\"version\":2,\"request\":{\"destroy\":\"everything\"}}\n",
        "{\"version\":2,\"request\":{\"cancel\":-1}}\n",
        "{\"version\":-1,\"request\":\"overview\"}\n",
    ] {
        assert_eq!(post.say(nonsense.as_bytes()).await, "", "{nonsense}");
    }
    assert_eq!(post.say(&[0xff, 0xfe, b'\n']).await, "");
    let endless = [b'x'; 70_000];
    assert_eq!(post.say(&endless).await, "");
    // What is long and makes sense is too long all the same.
    let mut long = line(2, &json!({ "lift": "a" }));
    let spaces = vec![b' '; 65_536];
    long.splice(0..0, spaces);
    assert_eq!(post.say(&long).await, "");
    post.client().await.overview().await.unwrap();
}

#[tokio::test]
async fn another_language_is_told_from_nonsense() {
    let post = Post::new(one()).await;
    for version in [0, 1, 9] {
        let answer: Value = serde_json::from_str(&post.say(&line(version, &json!("sing"))).await).unwrap();
        assert_eq!(answer, json!({ "other_version": { "version": 2 } }));
    }
    // And so it is by the other side.
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
    let answering = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"{\"other_version\":{\"version\":3}}\n").await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
    });
    let client = Client::connect(folder.path()).await.unwrap();
    let newer = client.overview().await.unwrap_err();
    assert_eq!(newer.code(), "daemon/newer-format");
    assert!(newer.to_string().contains("format 3"), "{newer}");
    answering.await.unwrap();
}

#[tokio::test]
async fn a_crowd_is_hung_up_on_and_served_when_there_is_room() {
    let post = Post::new(one()).await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(UnixStream::connect(post.folder.path().join(SOCKET)).await.unwrap());
    }
    let late = post.client().await.overview().await.unwrap_err();
    assert_eq!(late.code(), "daemon/ended");
    drop(silent);
    while post.client().await.overview().await.is_err() {}
}

#[tokio::test]
async fn who_follows_hears_the_end_of_the_daemon() {
    let mut post = Post::new(one()).await;
    let (_, _, mut follow) = post.client().await.ask(push("a", 1, 0)).await.unwrap();
    assert_eq!(follow.next().await.unwrap(), News::Started);
    assert!(matches!(follow.next().await.unwrap(), News::Opened(_)));
    post.scene.abort().await;
    assert_eq!(follow.next().await.unwrap_err().code(), "daemon/ended");
    // While the socket is still there, too.
    let gone = post.client().await.ask(push("a", 1, 0)).await.unwrap_err();
    assert_eq!(gone.code(), "daemon/ended");
}

#[tokio::test]
async fn the_last_news_is_told_before_the_line_is_cut() {
    let mut post = Post::new(one()).await;
    let (_, _, mut follow) = post.client().await.ask(push("a", 1, 0)).await.unwrap();
    assert_eq!(follow.next().await.unwrap(), News::Started);
    assert!(matches!(follow.next().await.unwrap(), News::Opened(_)));
    // Nobody is heard any more, and the news is still on its way.
    post.scene.finish(1, Ending::Live);
    post.stop.cancel();
    assert!(matches!(follow.next().await.unwrap(), News::Ended(_)));
    post.scene.shut_down();
    post.scene.ended().await.unwrap();
    post.close().await;
}
