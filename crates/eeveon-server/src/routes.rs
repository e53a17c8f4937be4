//! Every address there is, and who may call it.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    extract::{Path, Request, State, rejection::PathRejection},
    http::Response,
    routing::{MethodFilter, on},
};

use crate::{HookAddress, Webhooks, answer::Answer, apart::Apart, body::Bodies, hook, probe::Probe};

/// Who may call a route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Auth {
    /// Anybody. Such a route changes nothing and tells nothing of any project.
    Open,
    /// Whoever proves over the body that they know the secret of the one hook they call.
    Signature,
}

/// What a route does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// Tells that the process lives.
    Health,
    /// Tells whether it can do its work.
    Ready,
    /// Takes a delivery.
    Hook,
}

/// One address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Route {
    /// The method; where it is GET, HEAD is answered too.
    pub method: &'static str,
    /// The path. What stands in braces is a parameter.
    pub path: &'static str,
    /// Who may call it.
    pub auth: Auth,
    /// What it does.
    pub endpoint: Endpoint,
}

/// Every address there is. The router is made from this, so there can be no other.
pub const ROUTES: &[Route] = &[
    Route { method: "GET", path: "/healthz", auth: Auth::Open, endpoint: Endpoint::Health },
    Route { method: "GET", path: "/readyz", auth: Auth::Open, endpoint: Endpoint::Ready },
    Route {
        method: "POST",
        path: "/hooks/{project}/{provider}",
        auth: Auth::Signature,
        endpoint: Endpoint::Hook,
    },
];

/// What the endpoints need.
#[derive(Debug)]
pub(crate) struct Backstage {
    pub(crate) webhooks: Arc<dyn Webhooks>,
    pub(crate) probe: Probe,
    pub(crate) bodies: Arc<Bodies>,
    pub(crate) refusal_time: Duration,
}

type Answered = Response<axum::body::Body>;

/// Makes the router. Each request has to carry its [`Apart`].
pub(crate) fn router(backstage: Arc<Backstage>) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let method = match route.endpoint {
            Endpoint::Health => on(MethodFilter::GET, async || Answered::from(Answer::Alive)),
            Endpoint::Ready => on(MethodFilter::GET, ready),
            Endpoint::Hook => on(MethodFilter::POST, deliver),
        };
        router = router.route(route.path, method);
    }
    router
        .fallback(async || Answered::from(Answer::NotFound))
        .method_not_allowed_fallback(async || Answered::from(Answer::NotAllowed))
        .with_state(backstage)
}

async fn ready(State(backstage): State<Arc<Backstage>>, Extension(apart): Extension<Apart>) -> Answered {
    backstage.probe.ask(&apart).await.into()
}

async fn deliver(
    State(backstage): State<Arc<Backstage>>,
    Extension(apart): Extension<Apart>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Answered {
    // An address nobody can have is treated like one that nobody has.
    let address = path.ok().and_then(|Path((project, provider))| HookAddress::new(&project, provider));
    let (parts, body) = request.into_parts();
    hook::receive(address, parts.headers, body, &backstage, &apart).await.into()
}
