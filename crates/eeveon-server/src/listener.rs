//! Listening: who is let in, and the orderly end.

use std::{
    io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Limits, ListenConfig, Readiness, ServerError, Webhooks,
    body::Bodies,
    connection::{self, Common},
    slots::Slots,
    socket::{Accepted, Socket},
};

/// How long nothing is accepted after the system refused to, usually for want of file descriptors.
const BREATHER: Duration = Duration::from_millis(100);
/// How long those who were cut get to notice.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// What stands behind the addresses.
#[derive(Clone, Debug)]
pub struct App {
    /// Takes deliveries.
    pub webhooks: Arc<dyn Webhooks>,
    /// Knows whether the daemon can do its work.
    pub readiness: Arc<dyn Readiness>,
}

/// A socket that listens and does not answer yet.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    limits: Limits,
    slots: Arc<Slots>,
    bodies: Arc<Bodies>,
}

/// What the server holds at the moment.
#[derive(Clone, Debug)]
pub struct Load {
    slots: Arc<Slots>,
    bodies: Arc<Bodies>,
}

impl Load {
    /// Returns how many connections there are, and deliveries that outlive theirs.
    pub fn connections(&self) -> usize {
        self.slots.taken()
    }

    /// Returns how many bytes are set aside for bodies.
    pub fn body_bytes(&self) -> usize {
        self.bodies.held_bytes()
    }
}

/// How the end went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stopped {
    /// How many connections and deliveries were not finished in time and were dropped.
    pub cut: usize,
}

impl Listener {
    /// Checks the limits and begins to listen. Whoever connects waits until [`Listener::serve`].
    ///
    /// # Errors
    ///
    /// `server/limit`, `server/address-in-use`, `server/bind` and `server/socket-file`.
    pub async fn bind(config: ListenConfig) -> Result<Self, ServerError> {
        let ListenConfig { address, limits } = config;
        limits.check()?;
        let socket = Socket::bind(&address).await?;
        let slots = Arc::new(Slots::new(&limits));
        let bodies = Arc::new(Bodies::new(&limits));
        Ok(Self { socket, limits, slots, bodies })
    }

    /// Returns the address, with the port the system chose; `None` for a Unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.address()
    }

    /// Returns a view of what the server holds, for as long as it runs.
    pub fn load(&self) -> Load {
        Load { slots: Arc::clone(&self.slots), bodies: Arc::clone(&self.bodies) }
    }

    /// Answers until `shutdown` is cancelled; then lets nobody in, lets what runs finish, drops what takes
    /// longer than `shutdown_time`, and returns.
    pub async fn serve(self, app: App, shutdown: CancellationToken) -> Stopped {
        let Self { socket, limits, slots, bodies } = self;
        let common = Arc::new(Common::new(app, limits, bodies, shutdown.clone()));
        let door = Door { socket, slots: Arc::clone(&slots), common: Arc::clone(&common) };
        // Dropping it closes the socket, so that those who come next are told at once.
        let _stopped = shutdown.run_until_cancelled_owned(door.keep()).await;
        if timeout(common.limits.shutdown_time, slots.all_free()).await.is_ok() {
            return Stopped { cut: 0 };
        }
        let stopped = Stopped { cut: slots.taken() };
        common.cut.cancel();
        if timeout(LAST_MOMENT, slots.all_free()).await.is_err() {
            tracing::error!("a delivery does not stop");
        }
        stopped
    }
}

/// Lets connections in.
struct Door {
    socket: Socket,
    slots: Arc<Slots>,
    common: Arc<Common>,
}

impl Door {
    async fn keep(self) {
        let mut full_until = None;
        let mut failing = false;
        loop {
            self.room(&mut full_until).await;
            match self.socket.accept().await {
                Ok(accepted) => {
                    failing = false;
                    self.let_in(accepted);
                }
                // Whoever came has left again.
                Err(error) if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) => {}
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "connections cannot be accepted");
                    }
                    failing = true;
                    sleep(BREATHER).await;
                }
            }
        }
    }

    /// Waits until a place is free, or all have been taken for too long.
    async fn room(&self, full_until: &mut Option<Instant>) {
        let until = *full_until.get_or_insert_with(|| Instant::now() + self.common.limits.queue_time);
        if self.slots.room(until).await {
            *full_until = None;
        }
    }

    fn let_in(&self, accepted: Accepted) {
        match self.slots.take(accepted.peer()) {
            Some(slot) => {
                tokio::spawn(connection::serve(accepted.into_io(), slot, Arc::clone(&self.common)));
            }
            None => accepted.turn_away(),
        }
    }
}
