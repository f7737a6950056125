//! Who gets in.

use std::net::{Ipv4Addr, SocketAddr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kamil_node::{Client, ClusterKey, Listener, NodeError, NodeOptions};
use kamil_protocol::{ErrorCode, Health, node::Role};

use crate::world::{get_with, home, send, start};

#[tokio::test]
async fn only_kamils_own_names_are_served() {
    let world = start(|options| options.allowed_hosts = vec!["Hub.Home".to_owned()]).await;
    let addr = world.node.addr;
    let port = addr.port();
    for host in [
        format!("127.0.0.1:{port}"),
        "127.0.0.1".to_owned(),
        format!("localhost:{port}"),
        "LOCALHOST:1".to_owned(),
        "localhost.".to_owned(),
        "127.9.9.9".to_owned(),
        format!("[::1]:{port}"),
        "hub.home".to_owned(),
    ] {
        let reply = get_with(addr, "/greet", &[&format!("Host: {host}")]).await;
        assert_eq!(reply.status, 200, "{host}: {}", reply.body);
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "8.8.8.8",
        "192.168.1.1:8000",
        "",
        "a b",
        "x@localhost@y",
    ] {
        let reply = get_with(addr, "/greet", &[&format!("Host: {host}")]).await;
        assert_eq!(reply.code(), "host_not_allowed", "{host}");
    }
    let reply = send(addr, "GET /greet HTTP/1.0\r\n\r\n").await;
    assert_eq!(reply.code(), "host_not_allowed");
    let reply = get_with(addr, "/health", &["Host: evil.example"]).await;
    assert_eq!(reply.code(), "host_not_allowed", "health is open to all callers, but not to other sites");
}

#[tokio::test]
async fn no_other_site_gets_in_through_a_browser() {
    let world = start(|_| {}).await;
    let addr = world.node.addr;
    let host = format!("Host: {addr}");
    let other_port = format!("Origin: http://127.0.0.1:{}", addr.port() ^ 1);
    for allowed in [
        vec![],
        vec![format!("Origin: http://{addr}")],
        vec!["Sec-Fetch-Site: same-origin".to_owned()],
        vec!["Sec-Fetch-Site: none".to_owned()],
    ] {
        let mut headers = vec![host.as_str()];
        headers.extend(allowed.iter().map(String::as_str));
        assert_eq!(get_with(addr, "/greet", &headers).await.status, 200, "{headers:?}");
    }
    for refused in [
        "Origin: null",
        "Origin: http://evil.example",
        "Origin: http://127.0.0.1",
        "Origin: http://localhost.evil.example",
        "Origin: file://",
        "Origin: chrome-extension://abc",
        "Origin: ",
        other_port.as_str(),
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        let reply = get_with(addr, "/greet", &[&host, refused]).await;
        assert_eq!(reply.code(), "origin_not_allowed", "{refused}");
    }
    let user_in_origin = format!("Origin: http://x@{addr}");
    assert_eq!(get_with(addr, "/greet", &[&host, &user_in_origin]).await.code(), "origin_not_allowed");
}

#[tokio::test]
async fn with_a_cluster_key_every_request_but_health_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let key = ClusterKey::load_or_create(&file).unwrap();
    let digits = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    let world = start(|options| options.cluster_key = Some(key.clone())).await;
    let addr = world.node.addr;
    let host = format!("Host: {addr}");

    assert_eq!(get_with(addr, "/health", &[&host]).await.status, 200);
    for path in ["/greet", "/secret", "/capabilities", "/metrics", "/openapi.json", "/nothing"] {
        let reply = get_with(addr, path, &[&host]).await;
        assert_eq!((reply.status, reply.code()), (401, "unauthenticated"), "{path}");
        assert!(reply.head.contains("www-authenticate: Basic realm=\"Kamil\""), "a browser asks for it");
    }
    let basic =
        |password: &str| format!("Authorization: Basic {}", BASE64_STANDARD.encode(format!("me:{password}")));
    for good in
        [format!("Authorization: Bearer {digits}"), format!("authorization: bearer {digits}"), basic(&digits)]
    {
        assert_eq!(get_with(addr, "/greet", &[&host, &good]).await.status, 200, "{good}");
    }
    let wrong = "0".repeat(64);
    for bad in [
        format!("Authorization: Bearer {wrong}"),
        format!("Authorization: Bearer {}", &digits[..63]),
        format!("Authorization: {digits}"),
        format!("Authorization: Digest {digits}"),
        "Authorization: Basic !!!".to_owned(),
        "Authorization: Bearer".to_owned(),
        basic(&wrong),
    ] {
        let reply = get_with(addr, "/greet", &[&host, &bad]).await;
        assert_eq!(reply.code(), "unauthenticated", "{bad}");
        assert!(!reply.body.contains(&digits));
    }
    assert_eq!(
        get_with(addr, "/greet", &["Host: evil.example", &basic(&digits)]).await.code(),
        "host_not_allowed"
    );

    let url = format!("http://{addr}");
    assert_eq!(Client::new(&url, Some(&key)).unwrap().get_text("/greet").await.unwrap(), "hello");
    let health: Health = Client::new(&url, None).unwrap().get("/health").await.unwrap();
    assert_eq!((health.role, health.node), (Role::Tool, world.node.id));
}

#[tokio::test]
async fn a_worker_obeys_only_the_orchestrator_that_it_registered_with() {
    let world = start(|_| {}).await;
    let client = Client::new(&world.node.url, None).unwrap();
    let told: String = client.with_node_token(world.token.expose()).unwrap().get("/secret").await.unwrap();
    assert_eq!(told, "told");
    for stranger in [
        client.clone(),
        client.with_node_token(&"0".repeat(64)).unwrap(),
        client.with_node_token("").unwrap(),
    ] {
        let problem = stranger.get::<String>("/secret").await.unwrap_err();
        assert_eq!(problem.code, ErrorCode::OrchestratorOnly);
    }
}

#[tokio::test]
async fn beyond_loopback_a_key_is_needed() {
    let (home, _folder) = home();
    for addr in [
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        "[::]:0".parse().unwrap(),
        "10.1.2.3:8000".parse().unwrap(),
    ] {
        let options = NodeOptions { bind: addr, ..NodeOptions::local(home.clone()) };
        let error = Listener::bind(&options, Role::Orchestrator).await.unwrap_err();
        assert!(matches!(error, NodeError::KeyNeeded { addr: refused } if refused == addr));
        assert!(error.to_string().contains("--cluster-key-file"), "{error}");
    }
    let file = home.identity().join("cluster.key");
    let key = ClusterKey::load_or_create(&file).unwrap();
    let options = NodeOptions {
        advertise: Some("hub.home".to_owned()),
        cluster_key: Some(key),
        ..NodeOptions::local(home)
    };
    let listener = Listener::bind(&options, Role::Orchestrator).await.unwrap();
    assert_eq!(listener.url(), format!("http://hub.home:{}", listener.addr().port()));
}

#[tokio::test]
async fn a_taken_port_is_named_with_who_holds_it() {
    let world = start(|_| {}).await;
    let (home, _folder) = home();
    let options = NodeOptions { bind: world.node.addr, ..NodeOptions::local(home.clone()) };
    let error = Listener::bind(&options, Role::Tool).await.unwrap_err().to_string();
    let port = world.node.addr.port();
    assert!(
        error.contains(&format!(
            "Port {port} on 127.0.0.1 is already in use by another Kamil node (role tool"
        )),
        "{error}"
    );

    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let options = NodeOptions { bind: other.local_addr().unwrap(), ..NodeOptions::local(home) };
    let error = Listener::bind(&options, Role::Tool).await.unwrap_err().to_string();
    assert!(error.contains("is already in use. Stop that program, or choose another port."), "{error}");
}
