//! There is no network, and no socket of the host.

use crate::stage::for_each_caller;
use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

#[test]
fn no_tcp_connection_reaches_a_listener() {
    const CONNECT: &str =
        "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 2); print('DONE')";
    for_each_caller(|stage| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        stage.attack(CONNECT, &[&port]);
        listener.set_nonblocking(true).unwrap();
        listener.accept().unwrap();
        assert_eq!(
            listener.accept().unwrap_err().kind(),
            ErrorKind::WouldBlock,
            "the control is the only one"
        );
    });
}

#[test]
fn no_datagram_reaches_a_listener() {
    const SEND: &str = "import socket, sys\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        s.sendto(b'canary', ('127.0.0.1', int(sys.argv[1]))); print('DONE')";
    for_each_caller(|stage| {
        let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        stage.attack(SEND, &[&port]);
        listener.set_nonblocking(true).unwrap();
        let mut buffer = [0; 16];
        listener.recv(&mut buffer).unwrap();
        assert_eq!(listener.recv(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn no_local_socket_of_the_host_is_reached() {
    const CONNECT: &str = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\n\
        s.connect(sys.argv[1].replace('@', chr(0))); print('DONE')";
    for_each_caller(|stage| {
        let name = crate::stage::token("abstract");
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        stage.attack(CONNECT, &[&format!("@{name}")]);
        let path = stage.outside.join("socket");
        let by_path = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        stage.attack(CONNECT, &[path.to_str().unwrap()]);
        drop((listener, by_path));
    });
}

#[test]
fn processes_of_the_sandbox_may_talk_to_each_other() {
    const TALK: &str = "import socket, os\ns = socket.socket(socket.AF_UNIX)\ns.bind('/tmp/s'); s.listen()\n\
        c = socket.socket(socket.AF_UNIX)\nc.connect('/tmp/s'); c.send(b'hello')\nprint(s.accept()[0].recv(5).decode())";
    for_each_caller(|stage| {
        let outcome = stage.python(TALK, &[]);
        assert_eq!(crate::stage::text(&outcome.stdout), "hello\n", "{}", crate::stage::text(&outcome.stderr));
    });
}
