//! Where it listens.

use std::{fs, os::unix::fs::PermissionsExt};

use eeveon_core::Diagnose;
use eeveon_server::{Limits, ListenAddress, ListenConfig, Listener};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use crate::support::{start, start_on};

fn unix(folder: &tempfile::TempDir, mode: u32) -> ListenAddress {
    ListenAddress::Unix { path: folder.path().join("hooks.sock"), mode }
}

async fn refused(address: ListenAddress) -> &'static str {
    Listener::bind(ListenConfig { address, limits: Limits::default() }).await.unwrap_err().code()
}

#[tokio::test]
async fn by_default_only_this_machine_can_connect() {
    let ListenAddress::Tcp(address) = ListenConfig::default().address else { panic!("not TCP") };
    assert!(address.ip().is_loopback());
}

#[tokio::test]
async fn a_taken_port_is_said_to_be_taken() {
    let server = start(Limits::default()).await;
    assert_eq!(refused(ListenAddress::Tcp(server.address())).await, "server/address-in-use");
    // Of a network nobody has: <https://www.rfc-editor.org/rfc/rfc5737>
    assert_eq!(refused(ListenAddress::Tcp("192.0.2.1:1".parse().unwrap())).await, "server/bind");
}

#[tokio::test]
async fn a_unix_socket_is_for_whom_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hooks.sock");
    for mode in [0o600, 0o660] {
        let server =
            start_on(unix(&folder, mode), Limits { connections_per_peer: Some(1), ..Limits::default() })
                .await;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let second = UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert_eq!(refused(unix(&folder, mode)).await, "server/address-in-use");
        drop((stream, second));
        assert_eq!(server.stop().await.cut, 0);
        // Its file remains, and the next one replaces it.
        assert!(path.exists());
    }
}

#[tokio::test]
async fn a_unix_socket_is_never_for_everybody_and_replaces_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(refused(unix(&folder, 0o666)).await, "server/socket-file");
    assert_eq!(refused(unix(&folder, 0o4600)).await, "server/socket-file");
    fs::write(folder.path().join("hooks.sock"), "notes").unwrap();
    assert_eq!(refused(unix(&folder, 0o600)).await, "server/socket-file");
    assert_eq!(fs::read_to_string(folder.path().join("hooks.sock")).unwrap(), "notes");
    let gone = ListenAddress::Unix { path: folder.path().join("no/such/folder"), mode: 0o600 };
    assert_eq!(refused(gone).await, "server/bind");
}
