//! `kamil`: a conversation in the terminal.

use kamil_protocol::{SessionId, TaskId, task::TaskRequest};
use rustyline::{Config, DefaultEditor, error::ReadlineError};

use crate::{
    arguments::ChatFlags,
    context::Context,
    failure::{Exit, Failure},
    following::{self, Person},
    hub::Hub,
    models,
    screen::{Screen, Shown},
    single_process::{self, Services},
    stopping::Requests,
    terminal::{self, BOLD, DIM, Stream},
};

const HISTORY_LINES: usize = 1_000;
const HISTORY_FILE: &str = "history";
const HELP: &str = "\
/trace [TASK]   every step of the last task (or another): where it ran, and why
/nodes          the nodes, their hardware and load
/quit           end (also Ctrl-D)
Ctrl-C stops the task that runs; a second one ends Kamil.";

/// In this process, unless an orchestrator runs here already.
pub(super) async fn run(context: &Context, flags: ChatFlags) -> Result<Exit, Failure> {
    if context.json {
        return Err(Failure::usage("a conversation has no JSON form").next("use `kamil ask --json \"…\"`"));
    }
    let hub = match Hub::if_running(context, None).await? {
        Some(hub) => {
            terminal::note(format_args!(
                "an orchestrator already runs at {}: using it",
                hub.client.base_url()
            ));
            hub
        }
        None => {
            models::make_ready(context, flags.model.as_deref()).await?;
            let services =
                Services::all(single_process::preferred_port(context)).with_model(flags.model.clone());
            Hub::local(context, services.with_pages()).await?
        }
    };
    let model = if hub.is_local() { None } else { flags.model };
    converse(context, hub, ChatFlags { model, session: flags.session }).await
}

/// Reads, asks, shows, until the person ends it.
pub(super) async fn converse(context: &Context, hub: Hub, flags: ChatFlags) -> Result<Exit, Failure> {
    let mut conversation = Conversation {
        session: flags.session.unwrap_or_else(SessionId::generate),
        model: flags.model,
        last: None,
        hub,
    };
    let mut lines = Lines::open(context)?;
    greet(&conversation);
    let exit = loop {
        let (returned, line) = lines.next().await?;
        lines = returned;
        let Some(line) = line else { break Ok(Exit::Done) };
        match conversation.take(context, line.trim()).await {
            Ok(Next::Go) => {}
            Ok(Next::Quit) => break Ok(Exit::Done),
            Err(failure) if failure.exit == Exit::Unreachable => break Err(failure),
            Err(failure) => terminal::complain(&failure),
        }
    };
    conversation.hub.close().await;
    exit
}

fn greet(conversation: &Conversation) {
    let place = if conversation.hub.is_local() {
        format!("runs in this process; its web page is at {}", conversation.hub.client.base_url())
    } else {
        format!("uses the orchestrator at {}", conversation.hub.client.base_url())
    };
    terminal::note(format_args!("{} {place}", Stream::Err.paint(BOLD, "Kamil")));
    terminal::note(Stream::Err.paint(DIM, "/help tells what else can be typed"));
}

enum Next {
    Go,
    Quit,
}

struct Conversation {
    hub: Hub,
    session: SessionId,
    model: Option<String>,
    last: Option<TaskId>,
}

impl Conversation {
    async fn take(&mut self, context: &Context, line: &str) -> Result<Next, Failure> {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (None, _) => {}
            (Some("/quit" | "/exit" | "/q"), None) => return Ok(Next::Quit),
            (Some("/help" | "/?"), None) => terminal::note(HELP),
            (Some("/nodes"), None) => super::nodes::show(context, &self.hub).await?,
            (Some("/trace"), Some(task)) => {
                let task = self.hub.find_task(task).await?;
                super::trace::show(context, &self.hub, task).await?;
            }
            (Some("/trace"), None) => match self.last {
                Some(task) => super::trace::show(context, &self.hub, task).await?,
                None => terminal::note("nothing has been asked yet"),
            },
            (Some(word), _) if word.starts_with('/') && !word[1..].contains('/') => {
                terminal::note(format_args!(
                    "`{}` is not a command of the chat; /help lists them",
                    terminal::neutralise(word)
                ));
            }
            _ => return self.ask(line).await,
        }
        Ok(Next::Go)
    }

    async fn ask(&mut self, line: &str) -> Result<Next, Failure> {
        let request = TaskRequest {
            input: line.to_owned(),
            session: Some(self.session),
            model: self.model.clone(),
            ..TaskRequest::default()
        };
        let mut stop = Requests::listen();
        let task = self.hub.submit(&request).await?;
        self.last = Some(task);
        let mut screen = Screen::new(Shown::All);
        let person = if terminal::is_interactive() { Person::Present } else { Person::Absent };
        let interrupted = tokio::select! {
            followed = following::follow(&self.hub, task, person, &mut screen) => {
                followed?;
                false
            }
            () = stop.next() => true,
        };
        if !interrupted {
            return Ok(Next::Go);
        }
        screen.break_line();
        screen.note("stopping the task; Ctrl-C again ends Kamil");
        super::cancel::cancel(&self.hub, task).await?;
        tokio::select! {
            followed = following::follow(&self.hub, task, Person::Absent, &mut screen) => followed.map(|_| Next::Go),
            () = stop.next() => Ok(Next::Quit),
        }
    }
}

/// Lines that a person types, with history; from a pipe, the lines of the pipe.
struct Lines {
    editor: Box<DefaultEditor>,
    history: std::path::PathBuf,
}

impl Lines {
    fn open(context: &Context) -> Result<Self, Failure> {
        let unusable =
            |error: ReadlineError| Failure::failed(format!("the terminal cannot be used: {error}"));
        let config = Config::builder()
            .max_history_size(HISTORY_LINES)
            .map_err(unusable)?
            .auto_add_history(true)
            .build();
        let mut editor = Box::new(DefaultEditor::with_config(config).map_err(unusable)?);
        let history = context.home.path().join(HISTORY_FILE);
        // There is none before the first conversation.
        let _ = editor.load_history(&history);
        Ok(Self { editor, history })
    }

    /// The next line; `None` at the end. The editor waits on a thread of its own.
    async fn next(mut self) -> Result<(Self, Option<String>), Failure> {
        let read = tokio::task::spawn_blocking(move || {
            let prompt = if terminal::is_interactive() { "› " } else { "" };
            let mut interrupted = false;
            loop {
                match self.editor.readline(prompt) {
                    Ok(line) => {
                        if let Err(error) = self.editor.save_history(&self.history) {
                            tracing::warn!(%error, "the history of the conversation cannot be written");
                        }
                        return (self, Ok(Some(line)));
                    }
                    Err(ReadlineError::Interrupted) if !interrupted => {
                        interrupted = true;
                        terminal::note("Ctrl-C again, Ctrl-D or /quit ends Kamil");
                    }
                    Err(ReadlineError::Interrupted | ReadlineError::Eof) => return (self, Ok(None)),
                    Err(error) => {
                        return (self, Err(Failure::failed(format!("the input cannot be read: {error}"))));
                    }
                }
            }
        });
        let (lines, line) =
            read.await.map_err(|error| Failure::failed(format!("the input cannot be read: {error}")))?;
        Ok((lines, line?))
    }
}
