//! The http clients of all mirrors of a program: each knows the authorities of the whole machine and keeps
//! connections, so those who would make the same one share it.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Certificate, Client, Proxy, redirect::Policy};

use crate::{SourceConfig, SourceError, refs::shown, watch::chain};

/// So many are remembered; more different settings than that are unusual.
const KEPT: usize = 16;

/// Clients for http. Cheap to clone; mirrors whose settings hold clones of one share its clients, and so
/// the connections to a server. What proves who one is goes with each request and is not shared.
#[derive(Clone, Default)]
pub struct HttpClients(Arc<Mutex<VecDeque<(Settings, Client)>>>);

/// What a client is made from.
#[derive(Clone, Eq, PartialEq)]
struct Settings {
    proxy: Option<String>,
    authorities: Option<Vec<u8>>,
    connect: Duration,
    idle: Duration,
}

impl HttpClients {
    /// Returns the client for these settings.
    pub(crate) fn of(&self, config: &SourceConfig) -> Result<Client, SourceError> {
        let read = |path| std::fs::read(path).map_err(SourceError::io("read", path));
        let settings = Settings {
            proxy: config.credentials.proxy.clone(),
            authorities: config.credentials.ca_file.as_deref().map(read).transpose()?,
            connect: config.limits.connect,
            idle: config.limits.idle,
        };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = kept.iter().find(|(made_from, _)| *made_from == settings) {
            return Ok(client.clone());
        }
        let client = make(config, &settings)?;
        kept.truncate(KEPT - 1);
        kept.push_front((settings, client.clone()));
        Ok(client)
    }
}

/// A proxy's address may hold a password.
impl fmt::Debug for HttpClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpClients")
    }
}

fn make(config: &SourceConfig, settings: &Settings) -> Result<Client, SourceError> {
    let mut builder = Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(settings.connect)
        .read_timeout(settings.idle)
        .http1_title_case_headers();
    let refused = |rule| SourceError::Url { given: config.url.to_string(), rule };
    if let Some(proxy) = &settings.proxy {
        builder = builder.proxy(Proxy::all(proxy).map_err(|_| refused("its proxy is malformed"))?);
    }
    if let Some(pem) = &settings.authorities {
        let certificates = Certificate::from_pem_bundle(pem).map_err(|_| SourceError::Io {
            action: "understand",
            path: config.credentials.ca_file.clone().unwrap_or_default(),
            source: io::Error::other("no PEM certificates"),
        })?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| SourceError::Certificate {
        repo: config.url.to_string(),
        detail: shown(&chain(&error)),
    })
}

#[cfg(test)]
mod tests {
    use eeveon_testkit::servers::{Validity, write_certificates};

    use super::*;
    use crate::RepoUrl;

    fn kept(clients: &HttpClients) -> usize {
        clients.0.lock().unwrap().len()
    }

    #[test]
    fn who_would_make_the_same_client_shares_it() {
        let clients = HttpClients::default();
        let config = |url: &str| SourceConfig::new(RepoUrl::parse(url).unwrap());
        clients.of(&config("https://example.org/a")).unwrap();
        clients.of(&config("https://example.com/b")).unwrap();
        assert_eq!(kept(&clients), 1);

        let folder = tempfile::tempdir().unwrap();
        let mut own = config("https://example.org/a");
        own.credentials.ca_file = Some(folder.path().join("ca.pem"));
        assert!(clients.of(&own).unwrap_err().to_string().contains("ca.pem"));
        // What the file says counts, not what it is called.
        for expected in [2, 3] {
            let made = tempfile::tempdir().unwrap();
            write_certificates(made.path(), Validity::Good).unwrap();
            std::fs::copy(made.path().join("ca.pem"), folder.path().join("ca.pem")).unwrap();
            clients.of(&own).unwrap();
            clients.of(&own).unwrap();
            assert_eq!(kept(&clients), expected);
        }
    }

    #[test]
    fn not_all_there_ever_were_are_remembered() {
        let clients = HttpClients::default();
        for seconds in 1..40 {
            let mut config = SourceConfig::new(RepoUrl::parse("https://example.org/a").unwrap());
            config.limits.idle = Duration::from_secs(seconds);
            clients.of(&config).unwrap();
        }
        assert_eq!(kept(&clients), KEPT);
    }

    #[test]
    fn a_proxys_password_is_not_shown() {
        let clients = HttpClients::default();
        let mut config = SourceConfig::new(RepoUrl::parse("https://example.org/a").unwrap());
        config.credentials.proxy = Some("http://me:hunter2@proxy:3128".to_owned());
        clients.of(&config).unwrap();
        assert!(!format!("{clients:?}").contains("hunter2"));
    }
}
