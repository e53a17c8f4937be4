//! Services behind a proxy: what goes to it, what does not, and what is never told.

use std::sync::Arc;

use eeveon_core::{Diagnose as _, Secret};
use eeveon_notify::{
    EventKind, HttpOptions, Message, Notifier as _, NotifyError, Proxies, Setup, Teams, Templates,
};
use eeveon_testkit::notify::{Reply, Service, event};

use crate::rig::{Known, credential};

fn channel(url: &str, proxies: Proxies) -> Result<Teams, NotifyError> {
    let setup = Setup {
        name: "team".to_owned(),
        secrets: Arc::new(Known::default()),
        templates: Templates::default(),
        http: HttpOptions { proxies, ..HttpOptions::default() },
    };
    Teams::new(setup, credential(url))
}

/// Proxies at `service`, with a password, for both kinds of addresses.
fn proxies(service: &Service, except: &str) -> Proxies {
    let url = Secret::new(service.url("").replace("http://", "http://ada:pr0xy-pa55@"));
    Proxies { http: url.clone(), https: url, except: except.to_owned() }
}

#[tokio::test]
async fn a_message_goes_through_the_proxy_of_its_kind_of_address() {
    let proxy = Service::start(|_| Reply::new(200, "")).await;
    let plain = channel("http://hook.invalid/t0ken", proxies(&proxy, "other.invalid")).unwrap();
    plain.notify(&Message::of(event(EventKind::Succeeded))).await.unwrap();
    let heard = proxy.received().remove(0);
    assert_eq!((heard.method.as_str(), heard.path.as_str()), ("POST", "http://hook.invalid/t0ken"));
    assert!(heard.header("proxy-authorization").is_some_and(|it| it.starts_with("Basic ")));

    // A tunnel that it does not open: it learns the host, and nothing else.
    let refusing = Service::start(|_| Reply::new(407, "who is ada:pr0xy-pa55?")).await;
    let secure = channel("https://hook.invalid/t0ken", proxies(&refusing, "")).unwrap();
    let error = secure.notify(&Message::of(event(EventKind::Succeeded))).await.unwrap_err();
    let heard = refusing.received().remove(0);
    assert_eq!((heard.method.as_str(), heard.path.as_str()), ("CONNECT", "hook.invalid:443"));
    assert!(heard.body.is_empty());
    let told = format!("{error} {error:?} {secure:?}");
    assert!(!told.contains("pr0xy-pa55") && !told.contains("t0ken"), "{told}");
}

#[tokio::test]
async fn what_is_excepted_is_reached_without_one() {
    let proxy = Service::start(|_| Reply::new(200, "")).await;
    let service = Service::start(|_| Reply::new(200, "")).await;
    for except in ["127.0.0.1", "10.0.0.0/8,127.0.0.0/8", "*"] {
        let before = service.received().len();
        let direct = channel(&service.url("/hook"), proxies(&proxy, except)).unwrap();
        direct.notify(&Message::of(event(EventKind::Succeeded))).await.unwrap();
        assert_eq!(service.received().len(), before + 1, "{except}");
    }
    let without = channel(&service.url("/hook"), Proxies::default()).unwrap();
    without.notify(&Message::of(event(EventKind::Succeeded))).await.unwrap();
    assert!(proxy.received().is_empty());
}

#[test]
fn a_proxy_that_cannot_work_is_refused_without_its_address() {
    for url in ["socks5://ada:pr0xy-pa55@p.invalid", "http://ada:pr0xy-pa55@:1:2", "ftp://p.invalid"] {
        let proxies = Proxies { http: Secret::new(url), ..Proxies::default() };
        let error = channel("https://example.org", proxies).unwrap_err();
        assert_eq!(error.code(), "notify/config");
        assert!(error.to_string().contains("proxy") && !error.to_string().contains("invalid"), "{error}");
    }
    let without_scheme = Proxies { https: Secret::new("proxy.example.org:3128"), ..Proxies::default() };
    assert!(channel("https://example.org", without_scheme).is_ok());
}
