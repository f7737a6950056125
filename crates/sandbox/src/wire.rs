//! Messages between the caller and the launcher: JSON behind a four-byte length, over the socket that the launcher
//! finds as its standard input. Nothing travels in arguments or environment, where other processes could read it.

use crate::{Command, Enforced, Layer, Limits, Policy, Usage};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Larger than any request that [`Policy`] and [`Command`] let through, in its longest spelling.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A path or argument, which need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Text {
    Utf8(String),
    Bytes(Vec<u8>),
}

impl<T: AsRef<OsStr> + ?Sized> From<&T> for Text {
    fn from(text: &T) -> Self {
        let text = text.as_ref();
        text.to_str()
            .map_or_else(|| Self::Bytes(text.as_bytes().to_vec()), |text| Self::Utf8(text.to_owned()))
    }
}

impl From<Text> for OsString {
    fn from(text: Text) -> Self {
        match text {
            Text::Utf8(text) => text.into(),
            Text::Bytes(bytes) => OsString::from_vec(bytes),
        }
    }
}

impl Text {
    pub(crate) fn as_os_str(&self) -> &OsStr {
        match self {
            Self::Utf8(text) => OsStr::new(text),
            Self::Bytes(bytes) => OsStr::from_bytes(bytes),
        }
    }
}

/// What the launcher is asked to do. Standard input, if there is any, comes along as a descriptor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub caller_pid: i32,
    pub workspace: Option<Text>,
    pub workspace_read_only: bool,
    pub allow_exec: bool,
    pub read_only_binds: Vec<Text>,
    pub read_write_binds: Vec<Text>,
    pub limits: Limits,
    pub env: Vec<(String, String)>,
    pub cwd: Option<Text>,
    pub min_landlock_abi: u32,
    pub program: Text,
    pub args: Vec<Text>,
}

impl Request {
    pub(crate) fn new(caller_pid: i32, policy: &Policy, command: &Command) -> Self {
        Self {
            caller_pid,
            workspace: policy.workspace.as_ref().map(Text::from),
            workspace_read_only: policy.workspace_read_only,
            allow_exec: policy.allow_exec,
            read_only_binds: policy.read_only_binds.iter().map(Text::from).collect(),
            read_write_binds: policy.read_write_binds.iter().map(Text::from).collect(),
            limits: policy.limits.clone(),
            env: policy.env.clone(),
            cwd: policy.cwd.as_ref().map(Text::from),
            min_landlock_abi: policy.min_landlock_abi,
            program: Text::from(&command.program),
            args: command.args.iter().map(Text::from).collect(),
        }
    }
}

/// What the launcher answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// All layers hold; the program is run next.
    Enforced(Enforced),
    /// A layer does not hold; nothing is run.
    Refused { layer: Layer, reason: String },
    /// The policy names something that is not there.
    Invalid { reason: String },
    /// The program could not be run.
    Program { reason: String },
    /// The program ended with this `wait` status.
    Ended { wait_status: i32, usage: Usage },
}

/// Sends one message, with a descriptor if there is one.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let frame = [&length.to_le_bytes(), body.as_slice()].concat();
    let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    let mut sent = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket, &[IoSlice::new(&frame)], &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    while sent < frame.len() {
        let rest = frame.get(sent..).unwrap_or_default();
        sent += rustix::io::retry_on_intr(|| rustix::net::send(socket, rest, SendFlags::NOSIGNAL))?;
    }
    Ok(())
}

/// Receives the request and the descriptor that came with it. Blocks.
pub(crate) fn receive_request(socket: BorrowedFd<'_>) -> io::Result<(Request, Option<OwnedFd>)> {
    let mut descriptor = None;
    let mut frames = Frames::default();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            rustix::net::recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        })?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
                descriptor = descriptors.next().or(descriptor);
            }
        }
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        frames.push(buffer.get(..received.bytes).unwrap_or_default());
        if let Some(request) = frames.next()? {
            return Ok((request, descriptor));
        }
    }
}

/// Bytes received, cut into messages.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn next<T: for<'de> Deserialize<'de>>(&mut self) -> io::Result<Option<T>> {
        let Some((head, rest)) = self.bytes.split_first_chunk() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*head) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too large"));
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(body)?;
        self.bytes.drain(..size_of_val(head) + length);
        Ok(Some(message))
    }
}

/// A connected pair of local stream sockets, closed on `exec`.
pub(crate) fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// Sends one byte to the process at the other end.
pub(crate) fn signal_peer(socket: impl AsFd) -> io::Result<()> {
    rustix::net::send(socket, &[1], SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Waits for the byte of [`signal_peer`]; an error when the other end is gone.
pub(crate) fn await_peer(socket: impl AsFd) -> io::Result<()> {
    let mut byte = [0];
    let (received, _) =
        rustix::io::retry_on_intr(|| rustix::net::recv(&socket, &mut byte[..], RecvFlags::empty()))?;
    if received == 1 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_arrives_whole_with_its_descriptor() {
        let (near, far) = socket_pair().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let odd = OsString::from_vec(vec![0xff, b'x']);
        let command = Command::new("/bin/echo", [odd.clone(), "y".repeat(300_000).into()]);
        let sender = std::thread::spawn(move || {
            let request = Request::new(1, &Policy::default(), &command);
            send(near.as_fd(), &request, Some(reader.as_fd())).unwrap();
        });
        let (request, descriptor) = receive_request(far.as_fd()).unwrap();
        sender.join().unwrap();
        assert_eq!(OsString::from(request.args[0].clone()), odd);
        assert_eq!(request.args[1].as_os_str().len(), 300_000);
        rustix::io::write(&writer, b"in").unwrap();
        let mut bytes = [0; 2];
        rustix::io::read(descriptor.unwrap(), &mut bytes).unwrap();
        assert_eq!(&bytes, b"in");
    }

    #[test]
    fn messages_may_arrive_in_pieces_and_together() {
        let report = Report::Invalid { reason: "x".into() };
        let body = serde_json::to_vec(&report).unwrap();
        let frame = [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], &body].concat();
        let mut frames = Frames::default();
        for byte in &frame {
            assert_eq!(frames.next::<Report>().unwrap(), None);
            frames.push(&[*byte]);
        }
        frames.push(&frame);
        assert_eq!(frames.next().unwrap(), Some(report.clone()));
        assert_eq!(frames.next().unwrap(), Some(report));
        frames.push(&u32::MAX.to_le_bytes());
        assert!(frames.next::<Report>().is_err());
    }
}
