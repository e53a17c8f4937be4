//! Proxies on the way to services that speak HTTP. Whoever composes says which; nothing here reads
//! the environment.

use eeveon_core::Secret;
use reqwest::{NoProxy, Proxy, Url};

/// What stands between this machine and the services. An address of a proxy may hold a password.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Proxies {
    /// For addresses that begin with `http:`, such as `http://proxy.example.org:3128`.
    pub http: Option<Secret>,
    /// For addresses that begin with `https:`: a tunnel, RFC 9110, 9.3.6.
    pub https: Option<Secret>,
    /// Hosts that are reached without one, divided by commas: names with everything below them,
    /// addresses, networks such as `10.0.0.0/8`, or `*` for all.
    pub except: String,
}

impl Proxies {
    /// Returns them for the client. What is wrong is said without an address.
    pub(crate) fn all(&self) -> Result<Vec<Proxy>, &'static str> {
        if self.except.split(',').any(|it| it.trim() == "*") {
            // reqwest takes it for names, and not for addresses.
            return Ok(Vec::new());
        }
        let except = NoProxy::from_string(&self.except);
        let mut all = Vec::new();
        for (url, made) in
            [(&self.http, Proxy::http::<Url> as fn(Url) -> _), (&self.https, Proxy::https::<Url>)]
        {
            let Some(url) = url else { continue };
            let url = address(url).ok_or("the address of a proxy begins with http:// or https://")?;
            let proxy: Proxy = made(url).map_err(|_| "the address of a proxy is malformed")?;
            all.push(proxy.no_proxy(except.clone()));
        }
        Ok(all)
    }

    /// Returns what nobody may see of them.
    pub(crate) fn hidden(&self) -> Vec<String> {
        let urls = [&self.http, &self.https].into_iter().flatten().filter_map(address);
        urls.filter_map(|url| url.password().map(str::to_owned)).collect()
    }
}

/// Reads a proxy's address; without a scheme it is one of `http:`, as everywhere.
fn address(url: &Secret) -> Option<Url> {
    let text = url.expose().trim();
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}
