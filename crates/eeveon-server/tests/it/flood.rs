//! Many at once, few of them genuine.

use std::{sync::Arc, time::Duration};

use eeveon_server::Limits;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Barrier, task::JoinSet};

use crate::support::{post, rest, start};

/// Each end of each connection is a file of this process.
const CONNECTIONS: usize = 2_500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_genuine_delivery_of_a_flood_is_kept_and_memory_is_bounded() {
    let bodies_bytes = 4 * 1024 * 1024;
    let limits = Limits {
        connections: 512,
        queue_time: Duration::from_secs(60),
        bodies_bytes,
        refusal_time: Duration::from_millis(1),
        ..Limits::default()
    };
    let server = start(limits).await;
    let address = server.address();
    let together = Arc::new(Barrier::new(CONNECTIONS));
    let mut clients = JoinSet::new();
    for n in 0..CONNECTIONS {
        let together = Arc::clone(&together);
        clients.spawn(async move {
            let genuine = n % 100 == 0;
            let word = if genuine { "secret" } else { "guess" };
            let body = format!("{word} {n} {}", "x".repeat(4000));
            let stream = TcpStream::connect(address).await;
            together.wait().await;
            let mut stream = stream.unwrap();
            stream.write_all(post("/hooks/shop/secret", &body).as_bytes()).await.unwrap();
            let answer = rest(&mut stream).await;
            (genuine, answer, body)
        });
    }
    let mut most = (0, 0);
    let mut told = 0;
    while let Some(client) = clients.join_next().await {
        most = (most.0.max(server.load.connections()), most.1.max(server.load.body_bytes()));
        let (genuine, answer, body) = client.unwrap();
        let expected = if genuine { "HTTP/1.1 202 " } else { "HTTP/1.1 401 " };
        assert!(answer.starts_with(expected), "{answer}");
        let kept = server.hooks.accepted.lock().unwrap().contains(body.as_bytes());
        assert_eq!(kept, genuine);
        told += usize::from(genuine);
    }
    assert_eq!(told, CONNECTIONS / 100);
    assert!(most.0 <= 512 && most.1 <= bodies_bytes, "{most:?}");
    assert_eq!(server.hooks.accepted.lock().unwrap().len(), told);
}
