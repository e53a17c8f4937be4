//! Ctrl-C and SIGTERM: the first one stops and takes back, the second one ends the process at once
//! (the next command then takes back what is left).

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::CliError;

/// Starts listening; the token fires at the first signal.
///
/// # Errors
///
/// The system does not let us listen.
pub(crate) fn listen() -> Result<CancellationToken, CliError> {
    let handler =
        |kind| signal(kind).map_err(|source| CliError::io("listen to signals in", "/".as_ref(), source));
    let (mut interrupt, mut terminate) =
        (handler(SignalKind::interrupt())?, handler(SignalKind::terminate())?);
    let token = CancellationToken::new();
    let fired = token.clone();
    tokio::spawn(async move {
        loop {
            // 128 + the number of the signal, as shells report it.
            let code = tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            };
            if fired.is_cancelled() {
                std::process::exit(code);
            }
            fired.cancel();
        }
    });
    Ok(token)
}
