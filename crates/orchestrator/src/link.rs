//! The way to a node.

use std::{fmt, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::BoxFuture};
use kamil_node::{Client, ClusterKey, Method, STEP_HEADER, SseEvent, TASK_HEADER};
use kamil_protocol::{
    ErrorCode, Health, NodeId, Problem, StepId, TaskId,
    memory::{RecallReply, RecallRequest, RememberReply, RememberRequest},
    node::RegisterNode,
    reason::{ReasonDelta, ReasonReply, ReasonRequest},
    tool::{ExecuteReply, ExecuteRequest},
};
use serde::de::DeserializeOwned;

/// What a node beyond its answer may take until the connection is given up; the caller keeps the lease itself.
const GRACE: Duration = Duration::from_secs(1);

/// What a node is asked.
#[derive(Clone, Debug)]
pub enum NodeRequest {
    /// `POST /v1/reason`.
    Reason(Box<ReasonRequest>),
    /// `POST /v1/execute`.
    Execute(Box<ExecuteRequest>),
    /// `POST /v1/recall`.
    Recall(RecallRequest),
    /// `POST /v1/remember`.
    Remember(RememberRequest),
}

impl NodeRequest {
    const fn path(&self) -> &'static str {
        match self {
            Self::Reason(_) => "/v1/reason",
            Self::Execute(_) => "/v1/execute",
            Self::Recall(_) => "/v1/recall",
            Self::Remember(_) => "/v1/remember",
        }
    }
}

/// What it answers, each to its request.
#[derive(Clone, Debug)]
pub enum NodeReply {
    /// What a model wrote.
    Reasoned(Box<ReasonReply>),
    /// What a tool returned.
    Executed(Box<ExecuteReply>),
    /// What memory found.
    Recalled(Box<RecallReply>),
    /// What memory kept.
    Remembered(RememberReply),
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
pub struct NodeCall<'a> {
    /// The task that it is for.
    pub task: TaskId,
    /// The step.
    pub step: &'a StepId,
    /// What is asked.
    pub request: &'a NodeRequest,
    /// The node has this long; the caller keeps the time.
    pub lease: Duration,
}

/// The way to one run of a node.
pub trait Link: Send + Sync + fmt::Debug {
    /// Asks. Text of an answer that is streamed goes to `write` as it comes, in order, and is in the reply once more.
    /// Dropping the future closes the connection, so that the node stops.
    ///
    /// # Errors
    /// The node's own problem document as it is; `node_unreachable` if the connection cannot be made or breaks, after which
    /// nobody knows how far the node came; `bad_gateway` for an answer that cannot be read.
    fn send<'a>(
        &'a self,
        call: NodeCall<'a>,
        write: &'a (dyn Fn(&str) + Sync),
    ) -> BoxFuture<'a, Result<NodeReply, Problem>>;

    /// Whether the node says that it lives. It may take any time to find out.
    fn alive(&self) -> BoxFuture<'_, bool>;

    /// The HTTP client behind it, for what the API forwards as it is; `None` if there is no HTTP.
    fn client(&self) -> Option<&Client>;
}

/// How nodes are reached.
pub trait Network: Send + Sync + fmt::Debug {
    /// The way to a node that registers. Nothing is sent yet.
    ///
    /// # Errors
    /// `invalid_parameter` if its address is none.
    fn connect(&self, node: &RegisterNode) -> Result<Arc<dyn Link>, Problem>;
}

/// Nodes are reached over HTTP.
#[derive(Debug)]
pub(crate) struct HttpNetwork {
    pub(crate) key: Option<ClusterKey>,
}

impl Network for HttpNetwork {
    fn connect(&self, node: &RegisterNode) -> Result<Arc<dyn Link>, Problem> {
        let client = Client::new(&node.url, self.key.as_ref())?.with_node_token(&node.token)?;
        Ok(Arc::new(HttpLink { node: node.id, client }))
    }
}

#[derive(Debug)]
struct HttpLink {
    node: NodeId,
    client: Client,
}

impl Link for HttpLink {
    fn send<'a>(
        &'a self,
        call: NodeCall<'a>,
        write: &'a (dyn Fn(&str) + Sync),
    ) -> BoxFuture<'a, Result<NodeReply, Problem>> {
        Box::pin(self.ask(call, write))
    }

    fn alive(&self) -> BoxFuture<'_, bool> {
        Box::pin(async {
            let health = self.client.get::<Health>("/health").await;
            health.is_ok_and(|health| health.node == self.node)
        })
    }

    fn client(&self) -> Option<&Client> {
        Some(&self.client)
    }
}

impl HttpLink {
    async fn ask(&self, call: NodeCall<'_>, write: &(dyn Fn(&str) + Sync)) -> Result<NodeReply, Problem> {
        let client = self.client.with_timeout(call.lease.saturating_add(GRACE));
        let task = call.task.to_string();
        let headers = [(TASK_HEADER, task.as_str()), (STEP_HEADER, call.step.as_str())];
        let path = call.request.path();
        match call.request {
            NodeRequest::Reason(request) if request.stream => {
                let stream = client.stream(Method::POST, path, Some(request.as_ref()), &headers).await?;
                Ok(NodeReply::Reasoned(Box::new(follow(stream, write).await?)))
            }
            NodeRequest::Reason(request) => {
                let reply = client.post_with_headers(path, request.as_ref(), &headers).await?;
                Ok(NodeReply::Reasoned(Box::new(reply)))
            }
            NodeRequest::Execute(request) => {
                let reply = client.post_with_headers(path, request.as_ref(), &headers).await?;
                Ok(NodeReply::Executed(Box::new(reply)))
            }
            NodeRequest::Recall(request) => {
                let reply = client.post_with_headers(path, request, &headers).await?;
                Ok(NodeReply::Recalled(Box::new(reply)))
            }
            NodeRequest::Remember(request) => {
                Ok(NodeReply::Remembered(client.post_with_headers(path, request, &headers).await?))
            }
        }
    }
}

/// Reads the answer as it is written.
async fn follow(
    mut stream: kamil_node::SseStream,
    write: &(dyn Fn(&str) + Sync),
) -> Result<ReasonReply, Problem> {
    let mut streamed = 0;
    while let Some(event) = stream.next().await {
        let event = event?;
        match event.event.as_str() {
            "delta" => {
                let delta: ReasonDelta = read(&event)?;
                streamed += delta.text.len();
                write(&delta.text);
            }
            "done" => {
                let reply: ReasonReply = read(&event)?;
                // An engine that does not stream gives all its text at the end.
                write(reply.text.get(streamed..).unwrap_or_default());
                return Ok(reply);
            }
            "error" => return Err(read(&event)?),
            _ => {}
        }
    }
    Err(Problem::new(ErrorCode::NodeUnreachable, "The stream of the answer broke off."))
}

fn read<T: DeserializeOwned>(event: &SseEvent) -> Result<T, Problem> {
    serde_json::from_str(&event.data).map_err(|error| {
        let detail = format!("An event of the stream cannot be read: {error}.");
        Problem::new(ErrorCode::BadGateway, detail)
    })
}
