//! Ctrl-C and the request to end.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that Ctrl-C, SIGTERM or SIGHUP cancels.
pub(crate) fn on_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let stop = token.clone();
    let mut requests = Requests::listen();
    tokio::spawn(async move {
        requests.next().await;
        stop.cancel();
    });
    token
}

/// Requests to end, from the moment this is made: one that comes between two waits is not lost.
pub(crate) struct Requests(Option<(Signal, Signal, Signal)>);

impl Requests {
    pub(crate) fn listen() -> Self {
        let streams =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()));
        match streams {
            (Ok(interrupt), Ok(terminate), Ok(hangup)) => Self(Some((interrupt, terminate, hangup))),
            _ => {
                tracing::error!("signals cannot be received: Ctrl-C ends the process at once");
                Self(None)
            }
        }
    }

    /// The next request.
    pub(crate) async fn next(&mut self) {
        let Some((interrupt, terminate, hangup)) = &mut self.0 else { return std::future::pending().await };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
