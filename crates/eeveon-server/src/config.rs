//! Where to listen, and how much of anything a stranger may use.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use crate::ServerError;

/// The most that may be configured for one body: 25 MiB, which is what GitHub sends at most.
///
/// Source: <https://docs.github.com/en/webhooks/webhook-events-and-payloads>
const MOST_BODY_BYTES: usize = 25 * 1024 * 1024;
/// The fewest bytes of headers hyper can be limited to.
const LEAST_HEADER_BYTES: usize = 8 * 1024;

/// The address to listen on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ListenAddress {
    /// An address and port; port 0 lets the system choose one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix {
        /// Where its file is made. A socket nobody listens on any more is replaced.
        path: PathBuf,
        /// The permissions of the file, such as `0o600` or `0o660`. Nothing may be granted to others.
        mode: u32,
    },
}

/// Where to listen, and the limits there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListenConfig {
    /// The address; 127.0.0.1:8787 unless told otherwise.
    pub address: ListenAddress,
    /// The limits.
    pub limits: Limits,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            address: ListenAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 8787))),
            limits: Limits::default(),
        }
    }
}

/// How much a stranger may send, hold and delay.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Connections at once, 1024. Whoever comes when there are more waits in the system's queue.
    pub connections: usize,
    /// Connections at once from one IPv4 address or one IPv6 network of 64 bits; none by default. Behind a
    /// proxy all come from one.
    pub connections_per_peer: Option<usize>,
    /// How long all connections may be taken before those who come are turned away with 503: 2 s.
    pub queue_time: Duration,
    /// Bytes of one request's headers, 16 KiB.
    pub header_bytes: usize,
    /// Headers of one request, 64.
    pub header_count: usize,
    /// How long a request's headers may take, from the connection or their first byte on: 10 s.
    pub header_time: Duration,
    /// How long a connection may wait for another request: 30 s.
    pub idle_time: Duration,
    /// How long either wait, and the grace of a body, may last while fewer than a quarter of the connections
    /// are free: 1 s.
    pub hurried_time: Duration,
    /// Bytes of one body, 1 MiB; at most 25 MiB.
    pub body_bytes: usize,
    /// Bytes of all bodies in memory together, 64 MiB. What would need more is answered with 503.
    pub bodies_bytes: usize,
    /// How long one body may take: 30 s.
    pub body_time: Duration,
    /// How fast a body must come on average once `body_grace` is over, in bytes per second: 1024.
    pub body_rate: usize,
    /// How long a body may take whatever its rate: 5 s.
    pub body_grace: Duration,
    /// How long a delivery may be worked on: 20 s. After that it is dropped and answered with 503.
    pub handler_time: Duration,
    /// How long after its body a refusal is sent, however early it was known: 50 ms. This hides what finding
    /// out took.
    pub refusal_time: Duration,
    /// How long the other side may take to read an answer: 10 s.
    pub write_time: Duration,
    /// How long what runs may go on after the end was asked for: 20 s.
    pub shutdown_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connections: 1024,
            connections_per_peer: None,
            queue_time: seconds(2),
            header_bytes: 16 * 1024,
            header_count: 64,
            header_time: seconds(10),
            idle_time: seconds(30),
            hurried_time: seconds(1),
            body_bytes: 1024 * 1024,
            bodies_bytes: 64 * 1024 * 1024,
            body_time: seconds(30),
            body_rate: 1024,
            body_grace: seconds(5),
            handler_time: seconds(20),
            refusal_time: Duration::from_millis(50),
            write_time: seconds(10),
            shutdown_time: seconds(20),
        }
    }
}

impl Limits {
    /// Refuses what would switch a limit off or contradict another.
    pub(crate) fn check(&self) -> Result<(), ServerError> {
        let within = |what, given: usize, least: usize, most: usize| {
            let fits = (least..=most).contains(&given);
            fits.then_some(()).ok_or(ServerError::Limit { what, given, least, most })
        };
        within("connections", self.connections, 1, 65_536)?;
        if let Some(per_peer) = self.connections_per_peer {
            within("connections per peer", per_peer, 1, self.connections)?;
        }
        within("header bytes", self.header_bytes, LEAST_HEADER_BYTES, 64 * 1024)?;
        within("header count", self.header_count, 16, 256)?;
        within("body bytes", self.body_bytes, 1024, MOST_BODY_BYTES)?;
        within("bytes of all bodies", self.bodies_bytes, self.body_bytes, u32::MAX as usize)?;
        within("body rate", self.body_rate, 1, self.body_bytes)?;
        let times = [
            ("header time", 1, self.header_time),
            ("idle time", 1, self.idle_time),
            ("hurried time", 1, self.hurried_time),
            ("body time", 1, self.body_time),
            ("body grace", 1, self.body_grace),
            ("handler time", 1, self.handler_time),
            ("write time", 1, self.write_time),
            ("queue time", 0, self.queue_time),
            ("refusal time", 0, self.refusal_time),
            ("shutdown time", 0, self.shutdown_time),
        ];
        for (what, least, time) in times {
            within(what, usize::try_from(time.as_millis()).unwrap_or(usize::MAX), least, 600_000)?;
        }
        Ok(())
    }
}
