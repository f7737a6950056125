//! The one way in which every role starts its service.

use std::{
    collections::BTreeSet,
    fmt,
    future::IntoFuture as _,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, middleware};
use kamil_protocol::{
    Health, NodeId,
    node::{Capabilities, Hardware, RegisterNode, Role},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Client, ClusterKey, Home, Metrics, NodeError, NodeIdentity, NodeToken,
    client::parse_base,
    door::{self, Door, ReachedAt},
    endpoints::{self, About},
    hardware::{self, LoadProbe},
    identity::{machine_name, role_name},
    registration::{self, Registration},
};

/// How long requests may go on after the node was told to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// How long dropped requests may take to unwind.
const UNWIND: Duration = Duration::from_secs(1);

/// What the caller of [`Listener::bind`] decides.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Where the node keeps its state.
    pub home: Home,
    /// Where it listens. Port 0 takes any that is free.
    pub bind: SocketAddr,
    /// Its name for people; by default made from the machine and the role.
    pub name: Option<String>,
    /// Where the orchestrator is: `host:port` or `http://host:port`. None for the orchestrator itself.
    pub orchestrator: Option<String>,
    /// Where others reach this node (`host`, `host:port` or a URL); by default found out.
    pub advertise: Option<String>,
    /// The cluster's key. Needed to listen beyond loopback.
    pub cluster_key: Option<ClusterKey>,
    /// A file that says what hardware to pretend to have; see [`hardware::from_profile`].
    pub hardware_profile: Option<PathBuf>,
    /// More names under which people reach this node, e.g. behind a reverse proxy.
    pub allowed_hosts: Vec<String>,
}

impl NodeOptions {
    /// A node on this home that listens on any free port of loopback and has no orchestrator.
    #[must_use]
    pub fn local(home: Home) -> Self {
        Self {
            home,
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            name: None,
            orchestrator: None,
            advertise: None,
            cluster_key: None,
            hardware_profile: None,
            allowed_hosts: Vec::new(),
        }
    }
}

/// What a role brings to its node.
pub struct Service {
    /// The role.
    pub role: Role,
    /// Its endpoints, with their state applied and without a fallback. `/health`, `/capabilities`, `/metrics` and
    /// `/openapi.json` are added.
    pub router: Router,
    /// The description that is served as it stands; made with [`crate::describe`].
    pub openapi: utoipa::openapi::OpenApi,
    /// What the node offers. A change reaches the orchestrator at once.
    pub capabilities: watch::Receiver<Capabilities>,
    /// How many requests are running and how many are waiting.
    pub load: Arc<dyn Fn() -> (u32, u32) + Send + Sync>,
    /// The role's counters; those of HTTP are added.
    pub metrics: Arc<Metrics>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("role", &self.role).finish_non_exhaustive()
    }
}

/// A node that has its port and its identity, and does not serve yet.
#[derive(Debug)]
pub struct Listener {
    role: Role,
    socket: TcpListener,
    addr: SocketAddr,
    url: String,
    identity: NodeIdentity,
    token: NodeToken,
    hardware: Hardware,
    orchestrator: Option<Client>,
    cluster_key: Option<ClusterKey>,
    hosts: BTreeSet<String>,
}

/// A node that serves.
#[derive(Debug)]
pub struct RunningNode {
    /// What it is for.
    pub role: Role,
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Where others reach it.
    pub url: String,
    registered: watch::Receiver<bool>,
    serving: JoinHandle<io::Result<()>>,
    registering: Option<JoinHandle<()>>,
}

impl RunningNode {
    /// Waits until the orchestrator knows this node; the orchestrator itself need not wait. Ends as well when the node stops.
    pub async fn registered(&self) {
        let mut registered = self.registered.clone();
        // An error means that the registration has ended with the node.
        let _ = registered.wait_for(|registered| *registered).await;
    }

    /// Resolves when the node has shut down: it has said goodbye, and its requests have ended or were dropped after 5 s.
    ///
    /// # Errors
    /// If serving broke off by itself.
    pub async fn stopped(self) -> Result<(), NodeError> {
        let served = self.serving.await.map_err(io::Error::other).and_then(|served| served);
        if let Some(registering) = self.registering {
            // It ends with the same token, and has nothing to tell.
            let _ = registering.await;
        }
        served.map_err(|source| NodeError::Serve { addr: self.addr, source })
    }
}

impl Listener {
    /// Takes the port and the identity and looks at the hardware.
    ///
    /// # Errors
    /// If the address would let others in without a key, the port is taken, or a file or an address is not usable.
    pub async fn bind(options: &NodeOptions, role: Role) -> Result<Self, NodeError> {
        let NodeOptions {
            home,
            bind,
            name,
            orchestrator,
            advertise,
            cluster_key,
            hardware_profile,
            allowed_hosts,
        } = options;
        if !bind.ip().to_canonical().is_loopback() && cluster_key.is_none() {
            return Err(NodeError::KeyNeeded { addr: *bind });
        }
        let orchestrator =
            orchestrator.as_deref().map(|url| Client::new(url, cluster_key.as_ref())).transpose()?;
        let socket = match TcpListener::bind(bind).await {
            Ok(socket) => socket,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(NodeError::PortInUse { addr: *bind, holder: holder(*bind).await });
            }
            Err(source) => return Err(NodeError::Bind { addr: *bind, source }),
        };
        let addr = socket.local_addr().map_err(|source| NodeError::Bind { addr: *bind, source })?;
        let url = match advertise {
            Some(advertised) => advertised_url(advertised, addr.port())?,
            None => own_url(addr, orchestrator.as_ref()),
        };
        let profile = hardware_profile.clone();
        let hardware = tokio::task::spawn_blocking(move || match profile {
            Some(path) => hardware::from_profile(&path),
            None => Ok(hardware::probe()),
        });
        let hardware =
            hardware.await.map_err(|error| NodeError::Bind { addr, source: io::Error::other(error) })??;
        let mut hosts: BTreeSet<String> = allowed_hosts.iter().map(|host| host_of(host)).collect();
        hosts.insert(host_of(&url));
        if !addr.ip().is_loopback() {
            let machine = machine_name().to_ascii_lowercase();
            hosts.insert(format!("{machine}.local"));
            hosts.insert(machine);
            hosts.insert(host_of(&addr.to_string()));
        }
        Ok(Self {
            role,
            socket,
            addr,
            url,
            identity: NodeIdentity::load_or_create(home, role, name.clone())?,
            token: NodeToken::generate()?,
            hardware,
            orchestrator,
            cluster_key: cluster_key.clone(),
            hosts,
        })
    }

    /// Who the node is.
    #[must_use]
    pub fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where others reach it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The secret that the orchestrator shows in its calls.
    #[must_use]
    pub fn token(&self) -> &NodeToken {
        &self.token
    }

    /// What it runs on.
    #[must_use]
    pub fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    /// Serves, and registers with the orchestrator, until the shutdown.
    pub fn start(self, service: Service, shutdown: CancellationToken) -> RunningNode {
        let Self { role, socket, addr, url, identity, token, hardware, orchestrator, cluster_key, hosts } =
            self;
        let Service { role: _, router, openapi, capabilities, load, metrics } = service;
        let about = Arc::new(About {
            role,
            identity: identity.clone(),
            capabilities: capabilities.clone(),
            load: LoadProbe::new(&hardware),
            hardware: hardware.clone(),
            requests: load,
            metrics: Arc::clone(&metrics),
            openapi: serde_json::to_vec_pretty(&openapi).unwrap_or_default().into(),
            begun: Instant::now(),
        });
        let closing = CancellationToken::new();
        let door = Door::new(cluster_key, hosts, metrics, shutdown.clone(), closing.clone());
        let router = endpoints::router(Arc::clone(&about))
            .merge(router)
            .fallback(door::not_found)
            .method_not_allowed_fallback(door::method_not_allowed)
            .layer(middleware::from_fn_with_state(door, door::pass));
        tracing::info!(role = role_name(role), node = %identity.id, %addr, "serving");
        let serving = tokio::spawn(serve(socket, router, shutdown.clone(), closing));
        let (id, name) = (identity.id, identity.name.clone());
        let (registered_tx, registered) = watch::channel(orchestrator.is_none());
        let registering = orchestrator.map(|orchestrator| {
            let node = RegisterNode {
                id,
                instance: identity.instance,
                name: identity.name.clone(),
                role,
                url: url.clone(),
                token: token.expose().to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                capabilities: capabilities.borrow().clone(),
                hardware,
            };
            let registration =
                Registration { node, orchestrator, capabilities, about, registered: registered_tx };
            tokio::spawn(registration::keep(registration, shutdown))
        });
        RunningNode { role, id, name, addr, url, registered, serving, registering }
    }
}

/// Accepts connections, and sends small replies at once (TCP_NODELAY).
pub(crate) struct Connections(TcpListener);

impl axum::serve::Listener for Connections {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let (stream, peer) = axum::serve::Listener::accept(&mut self.0).await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
        (stream, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

async fn serve(
    socket: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    closing: CancellationToken,
) -> io::Result<()> {
    let service = router.into_make_service_with_connect_info::<ReachedAt>();
    let server =
        axum::serve(Connections(socket), service).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let mut server = tokio::spawn(server.into_future());
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = &mut server => return served.map_err(io::Error::other)?,
        () = drained => closing.cancel(),
    }
    tracing::warn!("requests did not end within {} s of the shutdown; they are dropped", DRAIN.as_secs());
    match tokio::time::timeout(UNWIND, &mut server).await {
        Ok(served) => served.map_err(io::Error::other)?,
        Err(_) => {
            server.abort();
            Ok(())
        }
    }
}

/// Who answers at the port, if it is a Kamil.
async fn holder(addr: SocketAddr) -> Option<String> {
    let mut reachable = addr;
    if reachable.ip().is_unspecified() {
        reachable.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let client = Client::new(&reachable.to_string(), None).ok()?.with_timeout(Duration::from_millis(500));
    let health: Health = client.get("/health").await.ok()?;
    Some(format!("another Kamil node (role {}, version {})", role_name(health.role), health.version))
}

fn own_url(addr: SocketAddr, orchestrator: Option<&Client>) -> String {
    let mut reachable = addr;
    if addr.ip().is_unspecified() {
        reachable.set_ip(orchestrator.and_then(outward_address).unwrap_or(Ipv4Addr::LOCALHOST.into()));
    }
    format!("http://{reachable}")
}

/// The address of this machine from which the orchestrator is reached. Connecting a UDP socket sends nothing.
fn outward_address(orchestrator: &Client) -> Option<IpAddr> {
    let url = parse_base(orchestrator.base_url()).ok()?;
    let peer = url.socket_addrs(|| None).ok()?.into_iter().next()?;
    let any: SocketAddr = if peer.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(peer).ok()?;
    socket.local_addr().ok().map(|addr| addr.ip())
}

fn advertised_url(advertised: &str, port: u16) -> Result<String, NodeError> {
    let mut url = parse_base(advertised)?;
    let names_port = advertised.contains("://") || url.port().is_some();
    if !names_port && url.set_port(Some(port)).is_err() {
        return Err(NodeError::Address {
            value: advertised.to_owned(),
            reason: "a port cannot be added".to_owned(),
        });
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// The host in an address, as the Host header writes it.
fn host_of(address: &str) -> String {
    let host = parse_base(address).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.unwrap_or_else(|| address.to_owned()).trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertised_address_gets_the_nodes_port() {
        for (given, url) in [
            ("hub.home", "http://hub.home:8001"),
            ("10.0.0.5:9000", "http://10.0.0.5:9000"),
            ("https://kamil.example/llm", "https://kamil.example/llm"),
            ("http://[fd00::1]:7", "http://[fd00::1]:7"),
        ] {
            assert_eq!(advertised_url(given, 8001).unwrap(), url);
        }
        assert!(advertised_url("not a host", 8001).is_err());
        assert_eq!(host_of("http://[fd00::1]:7"), "[fd00::1]");
        assert_eq!(host_of("Hub.Home."), "hub.home");
    }
}
