//! Who a service must prove to be, before it is told anything.

use std::{path::Path, sync::Arc};

use eeveon_core::{Class, Diagnose as _};
use eeveon_notify::{EventKind, HttpOptions, Message, Notifier as _, NotifyError, Setup, Teams, Templates};
use eeveon_testkit::{
    notify::event,
    servers::{Validity, write_certificates},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::rig::{credential, setup};

/// Starts a server that takes every message; what it reads comes out of the channel.
async fn serve(folder: &Path) -> (String, mpsc::UnboundedReceiver<String>) {
    let chain = CertificateDer::pem_file_iter(folder.join("server.pem")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/hush-hush", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut bytes = vec![0; 16 * 1024];
            let count = stream.read(&mut bytes).await.unwrap_or(0);
            sender.send(String::from_utf8_lossy(&bytes[..count]).into_owned()).unwrap();
            let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    (url, receiver)
}

async fn tell(url: &str, ca_file: Option<&Path>) -> Result<(), NotifyError> {
    let http = HttpOptions { ca_file: ca_file.map(Path::to_owned), ..HttpOptions::default() };
    let setup = Setup { http, ..setup("teams", &[("HOOK", url)], Templates::default()) };
    let teams = Teams::new(setup, credential("env:HOOK")).unwrap();
    teams.notify(&Message::of(event(EventKind::Succeeded))).await
}

fn is_certificate(error: &NotifyError) -> bool {
    assert!(!format!("{error:?} {error}").contains("hush-hush"), "{error:?}");
    matches!(error, NotifyError::Certificate { .. }) && error.class() == Class::Unreachable
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_when_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write_certificates(folder.path(), Validity::Good).unwrap();
    let (url, mut received) = serve(folder.path()).await;
    let error = tell(&url, None).await.unwrap_err();
    assert!(is_certificate(&error), "{error:?}");
    assert!(received.try_recv().is_err(), "nothing was sent");
    tell(&url, Some(&folder.path().join("ca.pem"))).await.unwrap();
    assert!(received.recv().await.unwrap().starts_with("POST /hush-hush HTTP/1.1"));
}

#[tokio::test]
async fn a_certificate_that_expired_is_none() {
    let folder = tempfile::tempdir().unwrap();
    write_certificates(folder.path(), Validity::Expired).unwrap();
    let (url, mut received) = serve(folder.path()).await;
    let error = tell(&url, Some(&folder.path().join("ca.pem"))).await.unwrap_err();
    assert!(is_certificate(&error), "{error:?}");
    assert!(error.to_string().contains("expired"), "{error}");
    assert!(received.try_recv().is_err(), "nothing was sent");
}
