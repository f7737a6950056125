//! `kamil ask "…"`

use kamil_protocol::task::{Priority, TaskRequest, TaskStatus};

use crate::{
    arguments::{AskFlags, ChatFlags, PriorityName},
    context::Context,
    failure::{Exit, Failure},
    following::{self, Followed, Person},
    hub::Hub,
    models,
    screen::{Screen, Shown},
    single_process::{Port, Services},
    stopping::Requests,
    terminal,
};

pub(super) async fn run(context: &Context, flags: AskFlags) -> Result<Exit, Failure> {
    let ChatFlags { model, session } = flags.chat;
    let services = Services::all(Port::Any).with_model(model.clone());
    let hub = connect(context, flags.orchestrator.named(), services).await?;
    // In this process the model is the one that was loaded for it.
    let model = if hub.is_local() { None } else { model };
    let request = TaskRequest {
        input: flags.request.join(" "),
        session,
        model,
        direct: flags.direct,
        priority: match flags.priority {
            PriorityName::Interactive => Priority::Interactive,
            PriorityName::Batch => Priority::Batch,
        },
        ..TaskRequest::default()
    };
    let exit = ask(context, &hub, &request).await;
    hub.close().await;
    exit
}

pub(super) async fn connect(
    context: &Context,
    named: Option<&str>,
    services: Services,
) -> Result<Hub, Failure> {
    match Hub::if_running(context, named).await? {
        Some(hub) => Ok(hub),
        None => {
            models::make_ready(context, services.model.as_deref()).await?;
            Hub::local(context, services).await
        }
    }
}

async fn ask(context: &Context, hub: &Hub, request: &TaskRequest) -> Result<Exit, Failure> {
    let mut stop = Requests::listen();
    let task = hub.submit(request).await?;
    let mut screen = Screen::new(if context.json { Shown::Steps } else { Shown::All });
    let person = if terminal::is_interactive() { Person::Present } else { Person::Absent };
    let followed = tokio::select! {
        followed = following::follow(hub, task, person, &mut screen) => followed?,
        () = stop.next() => {
            screen.break_line();
            screen.note("stopping");
            super::cancel::cancel(hub, task).await?;
            Followed::Ended(TaskStatus::Cancelled)
        }
    };
    if context.json {
        terminal::say_json(&hub.task(task).await?)?;
    }
    match followed {
        Followed::Ended(TaskStatus::Succeeded) => Ok(Exit::Done),
        Followed::Ended(_) => Ok(Exit::Failed),
        Followed::Awaiting => Ok(Exit::Refused),
    }
}
