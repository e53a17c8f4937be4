//! Servers that speak TLS, with certificates of our own authority.

use std::sync::{Arc, Mutex};

use eeveon_health::{HttpSpec, ProbeError, Reading};
use eeveon_testkit::servers::{Validity, write_certificates};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::common::*;

/// Serves over TLS; returns the port and the folder with the authority's `ca.pem`.
async fn serve(validity: Validity) -> (u16, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    write_certificates(folder.path(), validity).unwrap();
    let certificate = CertificateDer::from_pem_file(folder.path().join("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.path().join("server.key")).unwrap();
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let manner = Manner::Answers(Arc::new(|_| answer("200 OK", "", "")));
                    converse(stream, &manner, &Mutex::default()).await;
                }
            });
        }
    });
    (port, folder)
}

async fn seen(url: String, change: impl FnOnce(&mut HttpSpec)) -> Result<Reading, ProbeError> {
    get(url, change).await
}

fn is_tls(seen: &Result<Reading, ProbeError>) -> bool {
    matches!(seen, Err(ProbeError::Tls(_)))
}

#[tokio::test]
async fn an_authority_of_ones_own_can_be_named() {
    let (port, folder) = serve(Validity::Good).await;
    let ca = folder.path().join("ca.pem");
    for host in ["127.0.0.1", "localhost"] {
        let seen = seen(format!("https://{host}:{port}/"), |it| it.ca_file = Some(ca.clone())).await;
        assert_eq!(seen, Ok(Reading::Healthy), "{host}");
    }
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_no_answer() {
    let (port, folder) = serve(Validity::Good).await;
    let (_other, elsewhere) = serve(Validity::Good).await;
    let ca = elsewhere.path().join("ca.pem");
    let found = seen(format!("https://127.0.0.1:{port}/"), |it| it.ca_file = Some(ca)).await;
    assert!(is_tls(&found), "{found:?}");
    drop(folder);
}

#[tokio::test]
async fn a_certificate_for_another_name_or_time_is_no_answer() {
    let (port, folder) = serve(Validity::Good).await;
    let found = seen(format!("https://[::ffff:127.0.0.1]:{port}/"), |it| {
        it.ca_file = Some(folder.path().join("ca.pem"));
    });
    assert!(is_tls(&found.await), "the certificate is for another form of the address");
    let (port, folder) = serve(Validity::Expired).await;
    let ca = folder.path().join("ca.pem");
    let found = seen(format!("https://127.0.0.1:{port}/"), |it| it.ca_file = Some(ca)).await;
    assert!(is_tls(&found), "{found:?}");
    assert!(found.unwrap_err().to_string().contains("xpired"));
}

#[tokio::test]
async fn verification_can_be_left_out() {
    let (port, _folder) = serve(Validity::Expired).await;
    let found = seen(format!("https://127.0.0.1:{port}/"), |it| it.verify = false).await;
    assert_eq!(found, Ok(Reading::Healthy));
}

#[tokio::test]
async fn what_does_not_speak_tls_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (found, _) =
        tokio::join!(seen(format!("https://127.0.0.1:{port}/"), |it| it.verify = false), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.0 400 Bad\r\n\r\n").await.unwrap();
            // To its end, so that the answer is not lost by a reset.
            stream.read_to_end(&mut Vec::new()).await
        });
    assert!(is_tls(&found), "{found:?}");
}

#[tokio::test]
async fn a_file_without_certificates_is_a_fault_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let at = |path: &std::path::Path| {
        let path = path.to_owned();
        request("https://127.0.0.1:1/".to_owned(), move |it| it.ca_file = Some(path))
    };
    let error = made(&at(&file)).await.unwrap_err().to_string();
    assert!(error.contains("`ca_file`") && error.contains("cannot be read"), "{error}");
    std::fs::write(&file, "no certificates").unwrap();
    let error = made(&at(&file)).await.unwrap_err().to_string();
    assert!(error.contains("holds no PEM certificates"), "{error}");
}
