//! Why a node cannot start or run.

use std::{io, net::SocketAddr, path::PathBuf};

use kamil_protocol::Problem;

/// Why a node cannot start or run. The text is for a person: what failed, on what, why, what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// No folder for Kamil's state is known.
    #[error(
        "There is no place for Kamil's data: neither KAMIL_HOME nor HOME is set. Set KAMIL_HOME to a folder."
    )]
    NoHome,
    /// A file or folder of the home cannot be used.
    #[error("Kamil cannot {action} {}: {source}. Check the folder's owner and mode, or set KAMIL_HOME to another folder.", path.display())]
    File {
        /// What was tried, e.g. `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A file is there, but its content is not what it should be.
    #[error("{} cannot be used: {reason}.", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Others can read the cluster key.
    #[error("The cluster key {} can be read by others (mode {mode:04o}). Run `chmod 600 {}`; if others may have read it, delete it and make a new one.", path.display(), path.display())]
    KeyMode {
        /// The key file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A node that others could reach, without a key.
    #[error(
        "Listening on {addr} would let others on the network in without a key. Give a cluster key (--cluster-key-file FILE), or listen on 127.0.0.1."
    )]
    KeyNeeded {
        /// The address that was asked for.
        addr: SocketAddr,
    },
    /// Another program has the port.
    #[error("Port {} on {} is already in use{}. Stop that program, or choose another port.", addr.port(), addr.ip(), match holder { Some(holder) => format!(" by {holder}"), None => String::new() })]
    PortInUse {
        /// The address that was asked for.
        addr: SocketAddr,
        /// Who holds it, if it says so.
        holder: Option<String>,
    },
    /// The address cannot be listened on for another reason.
    #[error(
        "Kamil cannot listen on {addr}: {source}. Choose an address of this machine and a port above 1023."
    )]
    Bind {
        /// The address that was asked for.
        addr: SocketAddr,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A node's address that is not one.
    #[error("`{value}` is not an address of a node: {reason}. Expected is host:port or http://host:port.")]
    Address {
        /// What was given.
        value: String,
        /// Why it is not one.
        reason: String,
    },
    /// The operating system gives no randomness.
    #[error("The operating system gives no random bytes: {0}.")]
    Randomness(String),
    /// Serving broke off.
    #[error("The node on {addr} stopped serving: {source}.")]
    Serve {
        /// Where it listened.
        addr: SocketAddr,
        /// Why it stopped.
        #[source]
        source: io::Error,
    },
    /// Another node answered with a problem.
    #[error(transparent)]
    Peer(#[from] Problem),
}

impl NodeError {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
