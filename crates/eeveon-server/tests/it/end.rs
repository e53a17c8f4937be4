//! The orderly end.

use std::time::Duration;

use eeveon_server::{Limits, Stopped};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::{post, rest, start, status};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_is_answered_and_what_was_answered_is_durable() {
    let server = start(Limits::default()).await;
    let address = server.address();
    // Some wait inside when the end comes, and many more come all the time.
    let mut inside = Vec::new();
    for n in 0..50 {
        let mut stream = server.connect().await;
        stream.write_all(post("/hooks/shop/wait", &format!("inside {n}")).as_bytes()).await.unwrap();
        inside.push(stream);
    }
    server.hooks.begun.acquire_many(50).await.unwrap().forget();
    let clients = (0..8).map(|client| {
        tokio::spawn(async move {
            let mut told = Vec::new();
            for n in 0.. {
                let body = format!("{client} {n}");
                // Until nobody listens any more.
                let Ok(mut stream) = TcpStream::connect(address).await else { break };
                if stream.write_all(post("/hooks/shop/accept", &body).as_bytes()).await.is_err() {
                    break;
                }
                if rest(&mut stream).await.starts_with("HTTP/1.1 202") {
                    told.push(body.into_bytes());
                }
            }
            told
        })
    });
    let clients: Vec<_> = clients.collect();
    server.hooks.begun.acquire_many(100).await.unwrap().forget();
    server.shutdown.cancel();
    server.hooks.finish.add_permits(50);
    let mut told = Vec::new();
    for (n, mut stream) in inside.into_iter().enumerate() {
        assert_eq!(status(&rest(&mut stream).await), "HTTP/1.1 202 Accepted");
        told.push(format!("inside {n}").into_bytes());
    }
    for client in clients {
        told.extend(client.await.unwrap());
    }
    assert_eq!(server.stopped.await.unwrap(), Stopped { cut: 0 });
    let accepted = server.hooks.accepted.lock().unwrap();
    for body in &told {
        assert!(accepted.contains(body), "{}", String::from_utf8_lossy(body));
    }
    assert!(told.len() >= 100, "{}", told.len());
    assert_eq!(told.len(), accepted.len(), "nobody hung up, so everybody was told");
}

#[tokio::test]
async fn what_does_not_finish_is_cut_and_counted() {
    let server = start(Limits { shutdown_time: Duration::from_millis(50), ..Limits::default() }).await;
    let mut stuck = Vec::new();
    for _ in 0..3 {
        let mut stream = server.connect().await;
        stream.write_all(post("/hooks/shop/wait", "x").as_bytes()).await.unwrap();
        stuck.push(stream);
    }
    server.hooks.begun.acquire_many(3).await.unwrap().forget();
    // One of them has no connection any more.
    drop(stuck.pop());
    let (hooks, load) = (server.hooks.clone(), server.load.clone());
    assert_eq!(server.stop().await, Stopped { cut: 3 });
    for mut stream in stuck {
        assert_eq!(rest(&mut stream).await, "", "nobody was promised anything");
    }
    assert!(hooks.accepted.lock().unwrap().is_empty());
    assert_eq!((load.connections(), load.body_bytes()), (0, 0));
}

#[tokio::test]
async fn who_hangs_up_does_not_end_the_delivery() {
    let server = start(Limits::default()).await;
    let mut stream = server.connect().await;
    stream.write_all(post("/hooks/shop/wait", "kept").as_bytes()).await.unwrap();
    server.hooks.begun.acquire().await.unwrap().forget();
    drop(stream);
    server.hooks.finish.add_permits(1);
    let hooks = server.hooks.clone();
    assert_eq!(server.stop().await.cut, 0);
    assert!(hooks.accepted.lock().unwrap().contains(b"kept".as_slice()));
}
