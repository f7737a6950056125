//! The orchestrator that a command works with: one that runs already, or one in this process.

use kamil_node::Client;
use kamil_protocol::{
    ErrorCode, Health, Page, Problem, TaskId,
    node::{NodeDoc, Role},
    task::{TaskAccepted, TaskDoc, TaskRequest, TaskSummary},
};
use uuid::Uuid;

use crate::{
    address::Address,
    context::Context,
    failure::{Exit, Failure},
    single_process::{Services, SingleProcess},
    terminal,
};

/// How many of the newest tasks a shortened id is looked for in.
const PREFIX_SEARCH_TASKS: u32 = 200;

/// A connection to an orchestrator.
pub(crate) struct Hub {
    pub(crate) client: Client,
    local: Option<SingleProcess>,
}

/// What answers at an address.
enum Presence {
    /// An orchestrator.
    Orchestrator,
    /// Nothing; why.
    Nobody(Problem),
    /// Something else; what.
    Stranger(String),
}

impl Hub {
    /// The orchestrator that runs.
    pub(crate) async fn running(context: &Context, flag: Option<&str>) -> Result<Self, Failure> {
        let target = context.target(flag)?;
        let client = client(context, &target.address)?;
        match presence(&client).await? {
            Presence::Orchestrator => Ok(Self { client, local: None }),
            Presence::Nobody(problem) => Err(unreachable(&target.address, &problem.detail)),
            Presence::Stranger(what) => Err(stranger(&target.address, &what)),
        }
    }

    /// The orchestrator that runs, or else these services in this process.
    ///
    /// An address on the command line is binding; one from a variable or the settings is given up with a word about it.
    pub(crate) async fn running_or_local(
        context: &Context,
        flag: Option<&str>,
        services: Services,
    ) -> Result<Self, Failure> {
        if let Some(hub) = Self::if_running(context, flag).await? {
            return Ok(hub);
        }
        Self::local(context, services).await
    }

    /// These services in this process.
    pub(crate) async fn local(context: &Context, services: Services) -> Result<Self, Failure> {
        Self::of(context, SingleProcess::start(context, services).await?)
    }

    /// The orchestrator, if it runs; an address on the command line is binding.
    pub(crate) async fn if_running(context: &Context, flag: Option<&str>) -> Result<Option<Self>, Failure> {
        let target = context.target(flag)?;
        let client = client(context, &target.address)?;
        let why = match presence(&client).await? {
            Presence::Orchestrator => return Ok(Some(Self { client, local: None })),
            Presence::Nobody(problem) if target.named => {
                return Err(unreachable(&target.address, &problem.detail));
            }
            Presence::Stranger(what) if target.named => return Err(stranger(&target.address, &what)),
            Presence::Nobody(_) => "does not answer",
            Presence::Stranger(_) => "is not an orchestrator",
        };
        if target.configured {
            terminal::note(format_args!("{} {why}: everything runs in this process", target.address));
        }
        Ok(None)
    }

    /// The services of this process, given by whoever started them.
    pub(crate) fn of(context: &Context, local: SingleProcess) -> Result<Self, Failure> {
        let client = local.client(context)?;
        Ok(Self { client, local: Some(local) })
    }

    /// Whether the services run in this process.
    pub(crate) fn is_local(&self) -> bool {
        self.local.is_some()
    }

    /// Ends the services of this process, if there are any.
    pub(crate) async fn close(self) {
        if let Some(local) = self.local {
            local.stop().await;
        }
    }

    /// Hands in a request. It may be sent again after a broken connection: the key makes it one task.
    pub(crate) async fn submit(&self, request: &TaskRequest) -> Result<TaskId, Problem> {
        let key = Uuid::new_v4().to_string();
        let headers = [("idempotency-key", key.as_str())];
        let send = || self.client.post_with_headers::<_, TaskAccepted>("/v1/tasks", request, &headers);
        let accepted = match send().await {
            Err(problem) if problem.code == ErrorCode::NodeUnreachable => send().await?,
            other => other?,
        };
        Ok(accepted.id)
    }

    /// The task's document.
    pub(crate) async fn task(&self, id: TaskId) -> Result<TaskDoc, Problem> {
        self.client.get(&format!("/v1/tasks/{id}")).await
    }

    /// The registered nodes.
    pub(crate) async fn nodes(&self) -> Result<Vec<NodeDoc>, Problem> {
        let page: Page<NodeDoc> = self.client.get("/v1/nodes?limit=200").await?;
        Ok(page.items)
    }

    /// The task that a person means by an id, the beginning of one, or `last`.
    pub(crate) async fn find_task(&self, name: &str) -> Result<TaskId, Failure> {
        if let Ok(id) = name.parse() {
            return Ok(id);
        }
        let limit = if name == "last" { 1 } else { PREFIX_SEARCH_TASKS };
        let page: Page<TaskSummary> = self.client.get(&format!("/v1/tasks?limit={limit}")).await?;
        let ids = page.items.iter().map(|task| task.id);
        let matching: Vec<TaskId> = if name == "last" {
            ids.collect()
        } else {
            ids.filter(|id| id.to_string().starts_with(name)).collect()
        };
        match matching.as_slice() {
            [id] => Ok(*id),
            [] if name == "last" => {
                Err(Failure::usage("there is no task yet").next("`kamil ask \"…\"` makes one"))
            }
            [] => Err(Failure::usage(format!("no task's id begins with `{name}`"))
                .next("`kamil tasks` lists the tasks")),
            many => Err(Failure::usage(format!("the ids of {} tasks begin with `{name}`", many.len()))
                .next("write more of the id; `kamil tasks` lists the tasks")),
        }
    }
}

fn client(context: &Context, address: &Address) -> Result<Client, Failure> {
    Ok(Client::new(&address.url(), context.cluster_key()?.as_ref())?)
}

async fn presence(client: &Client) -> Result<Presence, Failure> {
    match client.get::<Health>("/health").await {
        Ok(health) if health.role == Role::Orchestrator => Ok(Presence::Orchestrator),
        Ok(health) => {
            Ok(Presence::Stranger(format!("a Kamil node of the role {:?} answers there", health.role)))
        }
        Err(problem) => match problem.code {
            ErrorCode::NodeUnreachable | ErrorCode::DeadlineExceeded => Ok(Presence::Nobody(problem)),
            ErrorCode::BadGateway | ErrorCode::NotFound => Ok(Presence::Stranger(problem.detail)),
            _ => Err(problem.into()),
        },
    }
}

fn unreachable(address: &Address, why: &str) -> Failure {
    Failure::new(Exit::Unreachable, format!("no orchestrator answers at {address}: {why}"))
        .next("start one with `kamil up` or `kamil orchestrator`, or name another with --orchestrator ADDR")
}

fn stranger(address: &Address, what: &str) -> Failure {
    Failure::new(Exit::Unreachable, format!("{address} is not a Kamil orchestrator: {what}"))
        .next("check the address and the port; name another with --orchestrator ADDR")
}
