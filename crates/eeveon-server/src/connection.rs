//! One connection, from its first byte to its last.

use std::{convert::Infallible, future::poll_fn, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Request, Response, StatusCode, header},
};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    App, Limits,
    apart::Apart,
    body::Bodies,
    pace::{Pace, Paced},
    probe::Probe,
    routes::{self, Backstage},
    slots::Slot,
    socket::Io,
};

/// How long, and how many bytes, are read on after the last answer. Closing with unread bytes would make
/// the system reset the connection, and the other side might never see the answer.
const LINGER: (Duration, usize) = (Duration::from_secs(2), 1024 * 1024);

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) router: Router,
    pub(crate) http: http1::Builder,
    pub(crate) limits: Limits,
    /// The end was asked for: finish.
    pub(crate) shutdown: CancellationToken,
    /// The end cannot wait any longer: stop.
    pub(crate) cut: CancellationToken,
}

impl Common {
    pub(crate) fn new(app: App, limits: Limits, bodies: Arc<Bodies>, shutdown: CancellationToken) -> Self {
        let App { webhooks, readiness } = app;
        let probe = Probe::new(readiness);
        let refusal_time = limits.refusal_time;
        let router = routes::router(Arc::new(Backstage { webhooks, probe, bodies, refusal_time }));
        let mut http = http1::Builder::new();
        http.max_headers(limits.header_count)
            .max_header_size(limits.header_bytes)
            .max_buf_size(limits.header_bytes)
            // `Pace` has finer ones.
            .header_read_timeout(None);
        Self { router, http, limits, shutdown, cut: CancellationToken::new() }
    }
}

/// Answers everything that comes over `stream`, until either side ends it.
pub(crate) async fn serve(stream: Box<dyn Io>, slot: Slot, common: Arc<Common>) {
    let cut = common.cut.clone();
    // Dropping a connection is the fastest end there is.
    let _ended = cut.run_until_cancelled(speak(stream, slot, &common)).await;
}

async fn speak(stream: Box<dyn Io>, slot: Slot, common: &Common) {
    let pace = Arc::new(Pace::new(slot, &common.limits));
    let service = service_fn(|request| Box::pin(answer(request, &pace, common)));
    let paced = Paced::new(stream, Arc::clone(&pace));
    let mut connection = common.http.serve_connection(TokioIo::new(paced), service);
    let mut ending = false;
    let outcome = loop {
        tokio::select! {
            biased;
            () = common.shutdown.cancelled(), if !ending => {
                ending = true;
                pace.hurry();
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
            outcome = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break outcome,
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended early");
    }
    if !pace.is_late() {
        let stream = connection.into_parts().io.into_inner().into_inner();
        // There is nothing left to say, whatever comes of this.
        let _lingered = timeout(LINGER.0, linger(stream)).await;
    }
}

async fn answer(
    request: Request<Incoming>,
    pace: &Arc<Pace>,
    common: &Common,
) -> Result<Response<Body>, Infallible> {
    pace.begun();
    // Where a length is given too, those on the way may disagree about where the body ends. hyper believes
    // the chunks; nothing that comes after them may count as a request.
    // Source: <https://www.rfc-editor.org/rfc/rfc9112#section-6.1>
    let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    let apart = Apart { pace: Arc::clone(pace), cut: common.cut.clone(), time: common.limits.handler_time };
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(apart);
    let mut response = TowerToHyperService::new(common.router.clone()).call(request).await?;
    let unread = matches!(response.status(), StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT);
    if chunked || unread {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    pace.answered();
    Ok(response)
}

/// Says that nothing more will come, and hears the other side out.
async fn linger(mut stream: Box<dyn Io>) -> std::io::Result<()> {
    stream.shutdown().await?;
    let mut left = LINGER.1;
    let mut scratch = vec![0; 4096];
    while left > 0 {
        match stream.read(&mut scratch).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
