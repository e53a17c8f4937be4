//! Which addresses a check may connect to, and the resolver that sees to it.
//!
//! A name is resolved once, every address it has is checked, and the connection goes to those: what
//! the name resolves to a moment later is no matter.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use url::Host;

use crate::ProbeError;

/// Who wrote the address, and so how far it may reach.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// The operator of this machine: anywhere.
    Operator,
    /// Somebody else, such as whoever may push to a repository: public addresses only, and neither
    /// files, commands nor secrets of this machine.
    Public,
}

impl Reach {
    /// Returns whether a connection to `address` may be made.
    pub fn allows(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Operator, _) => true,
            (Self::Public, IpAddr::V4(address)) => is_public_v4(address),
            (Self::Public, IpAddr::V6(address)) => is_public_v6(address),
        }
    }
}

/// What is not public, as first address and length of the prefix.
///
/// Source: <https://www.iana.org/assignments/iana-ipv4-special-registry/>. The last one is where
/// machines in Azure find their host:
/// <https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16>.
const NOT_PUBLIC_V4: &[([u8; 4], u32)] = &[
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 31, 196, 0], 24),
    ([192, 52, 193, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([192, 175, 48, 0], 24),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    // Multicast, what is reserved, broadcast.
    ([224, 0, 0, 0], 3),
    ([168, 63, 129, 16], 32),
];

fn is_public_v4(address: Ipv4Addr) -> bool {
    let prefix = |address: Ipv4Addr, length: u32| address.to_bits() >> (32 - length);
    !NOT_PUBLIC_V4.iter().any(|(first, length)| prefix((*first).into(), *length) == prefix(address, *length))
}

/// Only 2000::/3 is given out for public use, so that loopback, link-local, unique local, multicast,
/// and IPv4 addresses that are mapped, compatible, translated or behind NAT64 are outside of it.
/// Inside, these are not public either.
///
/// Source: <https://www.iana.org/assignments/iana-ipv6-special-registry/>.
const NOT_PUBLIC_V6: &[(Ipv6Addr, u32)] = &[
    // Protocol assignments: Teredo, ORCHID, benchmarks.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    // Documentation.
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
    // 6to4, which holds an IPv4 address.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    // AS112, which answers for private addresses.
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48),
];

fn is_public_v6(address: Ipv6Addr) -> bool {
    let prefix = |address: Ipv6Addr, length: u32| address.to_bits() >> (128 - length);
    let given_out = prefix(address, 3) == 0b001;
    // ISATAP holds an IPv4 address in the lower half, under any prefix: RFC 5214, section 6.1.
    let [.., high, low, _, _] = address.segments();
    let is_isatap = low == 0x5efe && matches!(high, 0 | 0x200);
    let special =
        NOT_PUBLIC_V6.iter().any(|(first, length)| prefix(*first, *length) == prefix(address, *length));
    given_out && !is_isatap && !special
}

/// Where names become addresses.
#[async_trait]
pub(crate) trait Names: fmt::Debug + Send + Sync {
    /// Returns the addresses of a name.
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The resolver of this machine.
#[derive(Debug)]
pub(crate) struct SystemNames;

#[async_trait]
impl Names for SystemNames {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|it| it.ip()).collect())
    }
}

/// Turns hosts into addresses that may be connected to.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    pub(crate) names: Arc<dyn Names>,
    pub(crate) reach: Reach,
}

impl Resolver {
    /// Returns the addresses of `host`; fails when one of them may not be connected to.
    pub(crate) async fn resolve(&self, host: &Host<&str>) -> Result<Vec<IpAddr>, ProbeError> {
        let addresses = match host {
            Host::Ipv4(address) => vec![(*address).into()],
            Host::Ipv6(address) => vec![(*address).into()],
            Host::Domain(name) => {
                let failed = |why: String| ProbeError::Dns { host: (*name).to_owned(), why };
                let found = self.names.addresses(name).await.map_err(|error| failed(error.to_string()))?;
                if found.is_empty() {
                    return Err(failed("it has no address".to_owned()));
                }
                found
            }
        };
        match addresses.iter().find(|address| !self.reach.allows(**address)) {
            Some(address) => Err(ProbeError::Denied { host: host.to_string(), address: *address }),
            None => Ok(addresses),
        }
    }
}

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = Resolver::resolve(&resolver, &Host::Domain(name.as_str())).await?;
            // The port 0 stands for the one in the URL.
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as reqwest::dns::Addrs)
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Names with made-up addresses, another list each time they are asked for.
    #[derive(Debug)]
    pub(crate) struct Flipping(Vec<Vec<&'static str>>, AtomicUsize);

    impl Flipping {
        pub(crate) fn new(lists: Vec<Vec<&'static str>>) -> Arc<Self> {
            Arc::new(Self(lists, AtomicUsize::new(0)))
        }

        pub(crate) fn asked(&self) -> usize {
            self.1.load(Ordering::Relaxed)
        }
    }

    #[async_trait]
    impl Names for Flipping {
        async fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            let list = &self.0[self.1.fetch_add(1, Ordering::Relaxed) % self.0.len()];
            Ok(list.iter().map(|address| address.parse().unwrap()).collect())
        }
    }

    #[test]
    fn ssrf_only_public_addresses_are_public() {
        let denied = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.127.127.127",
            "168.63.129.16",
            "169.254.0.1",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::a00:1",
            "100::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "3fff::1",
            "2600::5efe:7f00:1",
            "2600::200:5efe:10.0.0.1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2620:4f:8000::1",
            "4000::1",
            "e000::1",
        ];
        for address in denied {
            let address: IpAddr = address.parse().unwrap();
            assert!(!Reach::Public.allows(address), "{address}");
            assert!(Reach::Operator.allows(address), "{address}");
        }
        let public = [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.1",
            "100.63.255.255",
            "100.128.0.0",
            "126.0.0.1",
            "128.0.0.1",
            "168.63.129.15",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700:4700::1111",
            "2a00:1450:4001::1",
        ];
        for address in public {
            assert!(Reach::Public.allows(address.parse().unwrap()), "{address}");
        }
    }

    #[tokio::test]
    async fn ssrf_one_private_address_among_public_ones_is_enough() {
        let names = Flipping::new(vec![vec!["1.1.1.1", "2606:4700::1", "192.168.1.1"]]);
        let resolver = Resolver { names, reach: Reach::Public };
        let host = "a.example".to_owned();
        let denied = ProbeError::Denied { host, address: "192.168.1.1".parse().unwrap() };
        assert_eq!(resolver.resolve(&Host::Domain("a.example")).await, Err(denied));
    }

    #[tokio::test]
    async fn a_name_without_address_is_no_address() {
        let resolver = Resolver { names: Flipping::new(vec![vec![]]), reach: Reach::Operator };
        let found = resolver.resolve(&Host::Domain("a.example")).await;
        assert!(matches!(found, Err(ProbeError::Dns { .. })), "{found:?}");
    }
}
