//! Answers: the one place that knows status codes.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use eeveon_core::untrusted::printable;
use serde_json::json;

use crate::Reply;

/// What is sent to a connection there is no place for, before anything of it was read.
pub(crate) const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\n\
    content-length: 0\r\nconnection: close\r\n\r\n";

/// The longest reason that is sent, in characters.
const LONGEST_WHY: usize = 300;

/// Everything that is ever answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// What came of a delivery.
    Delivery(Reply),
    /// The process lives.
    Alive,
    /// It can do its work, or cannot.
    Ready(bool),
    /// No such address.
    NotFound,
    /// The address takes another method.
    NotAllowed,
    /// The body is larger than allowed.
    TooLarge,
    /// The body came too slowly.
    TooSlow,
    /// The body did not come whole.
    Broken,
    /// There is no memory for the body just now.
    NoRoom,
}

impl From<Answer> for Response<Body> {
    fn from(answer: Answer) -> Self {
        let (status, decision, why, retry_after) = match answer {
            Answer::Delivery(reply) => delivery(reply),
            Answer::Alive => (StatusCode::OK, "alive", "the process runs".to_owned(), None),
            Answer::Ready(true) => (StatusCode::OK, "ready", "deliveries are taken".to_owned(), None),
            Answer::Ready(false) => {
                let why = "the daemon's log says what it waits for".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, "not_ready", why, Some(5))
            }
            Answer::NotFound => fixed(StatusCode::NOT_FOUND, "not_found", "there is nothing here"),
            Answer::NotAllowed => {
                fixed(StatusCode::METHOD_NOT_ALLOWED, "not_allowed", "this address takes another method")
            }
            Answer::TooLarge => {
                fixed(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is larger than allowed")
            }
            Answer::TooSlow => fixed(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body came too slowly"),
            Answer::Broken => fixed(StatusCode::BAD_REQUEST, "malformed", "the body did not come whole"),
            Answer::NoRoom => {
                let why = "too much is being received".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, "busy", why, Some(5))
            }
        };
        let why: String = printable(&why).chars().take(LONGEST_WHY).collect();
        let body = json!({ "decision": decision, "why": why }).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            // Required with 401: <https://www.rfc-editor.org/rfc/rfc9110#section-15.5.2>
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Webhook"));
        }
        response
    }
}

/// Status, decision, reason, and after how many seconds to try again.
type Parts = (StatusCode, &'static str, String, Option<u64>);

fn fixed(status: StatusCode, decision: &'static str, why: &'static str) -> Parts {
    (status, decision, why.to_owned(), None)
}

fn delivery(reply: Reply) -> Parts {
    match reply {
        Reply::Accepted { why } => (StatusCode::ACCEPTED, "accepted", why, None),
        Reply::Ignored { why } => (StatusCode::OK, "ignored", why, None),
        // One answer for both: a stranger must not learn which hooks exist.
        Reply::Unknown | Reply::Refused => {
            fixed(StatusCode::UNAUTHORIZED, "refused", "no hook with this address and secret")
        }
        Reply::Malformed { why } => (StatusCode::BAD_REQUEST, "malformed", why, None),
        Reply::Busy { retry_after } => {
            let seconds = retry_after.as_secs().max(1);
            (StatusCode::SERVICE_UNAVAILABLE, "busy", "send it again later".to_owned(), Some(seconds))
        }
        Reply::Failed => {
            fixed(StatusCode::INTERNAL_SERVER_ERROR, "failed", "the daemon's log says what went wrong")
        }
    }
}
