//! The check that wants a connection.

use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::{net::TcpStream, time::timeout};
use url::Host;

use crate::{
    HealthCheck, HealthError, Pace, ProbeError, Reading, Subject, TcpSpec, check::cut, reach::Resolver,
};

/// Connects, and closes the connection again.
#[derive(Debug)]
pub(crate) struct TcpCheck {
    name: String,
    host: Host,
    port: u16,
    resolver: Resolver,
    pace: Pace,
}

impl TcpCheck {
    pub(crate) fn new(
        name: &str,
        spec: &TcpSpec,
        pace: &Pace,
        resolver: Resolver,
    ) -> Result<Self, HealthError> {
        let (host, port) =
            parse(&spec.address).map_err(|rule| HealthError::invalid(name, "address", rule))?;
        Ok(Self { name: name.to_owned(), host, port, resolver, pace: pace.clone() })
    }

    async fn connect(&self) -> Result<(), ProbeError> {
        let host = match &self.host {
            Host::Domain(name) => Host::Domain(name.as_str()),
            Host::Ipv4(address) => Host::Ipv4(*address),
            Host::Ipv6(address) => Host::Ipv6(*address),
        };
        let addresses = self.resolver.resolve(&host).await?;
        let addresses: Vec<_> = addresses.into_iter().map(|it| SocketAddr::new(it, self.port)).collect();
        match TcpStream::connect(addresses.as_slice()).await {
            Ok(_connection) => Ok(()),
            Err(error) => Err(ProbeError::Refused(cut(error.to_string()))),
        }
    }
}

/// Splits `host:port`.
pub(crate) fn parse(address: &str) -> Result<(Host, u16), &'static str> {
    const RULE: &str = "write it as host:port, such as 127.0.0.1:5432 or [::1]:5432";
    let (host, port) = address.rsplit_once(':').ok_or(RULE)?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or(RULE)?;
    // The same reading of hosts as in URLs, so that each form of an address is recognised.
    Ok((Host::parse(host).map_err(|_| RULE)?, port))
}

#[async_trait]
impl HealthCheck for TcpCheck {
    fn name(&self) -> &str {
        &self.name
    }

    async fn probe(&self, _: &Subject) -> Result<Reading, ProbeError> {
        let late = ProbeError::TimedOut { after_ms: self.pace.timeout_ms };
        timeout(self.pace.timeout(), self.connect()).await.unwrap_or(Err(late))?;
        Ok(Reading::Healthy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_in_urls() {
        for (text, host) in [
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:80", "[::1]"),
            ("db.example:80", "db.example"),
            ("2130706433:80", "127.0.0.1"),
            ("0x7f.1:80", "127.0.0.1"),
            ("0177.0.0.1:80", "127.0.0.1"),
        ] {
            assert_eq!(
                parse(text).map(|(host, port)| (host.to_string(), port)),
                Ok((host.to_owned(), 80)),
                "{text}"
            );
        }
        for bad in ["", "a", "a:", ":80", "a:0", "a:65536", "a b:80", "a/b:80", "me@a:80", "::1:80", "a:80:"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
