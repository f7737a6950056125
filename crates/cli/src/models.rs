//! Models on this machine: whether what is needed is there, and fetching it with progress.

use std::io::BufRead;

use indicatif::{ProgressBar, ProgressStyle};
use kamil_models::{InstalledModel, ModelError, ModelKind, ModelsDir, catalogue};

use crate::{
    context::Context,
    environment,
    failure::{Exit, Failure},
    stopping::Requests,
    table::bytes,
    terminal::{self, Stream},
};

/// The folder of models.
pub(crate) fn folder(context: &Context) -> ModelsDir {
    ModelsDir::new(context.home.models())
}

/// Looks whether the model that an LLM node in this process will load is there. If it is not, a person at the terminal
/// is asked whether to fetch it; without one, the failure says which command does.
///
/// A name that only a local Ollama could know is left to the LLM node.
pub(crate) async fn make_ready(context: &Context, model: Option<&str>) -> Result<(), Failure> {
    let settings = &context.settings.llm;
    if settings.engine_url.is_some() || environment::text(environment::ENGINE_URL).is_some() {
        return Ok(());
    }
    let configured = environment::text(environment::MODEL).or_else(|| settings.model.clone());
    let named = model.map(str::to_owned).or(configured);
    let models = folder(context);
    let wanted = match &named {
        Some(name) => match models.resolve(name) {
            // A name that is not in the catalogue may be one that a local Ollama knows.
            Ok(_) | Err(ModelError::UnknownName { .. }) => return Ok(()),
            Err(ModelError::NotInstalled { name }) => vec![name],
            Err(error) => return Err(Failure::usage(error.to_string())),
        },
        None if writes(&models)?.is_some() => return Ok(()),
        None => recommended()?,
    };
    if !terminal::is_interactive() {
        let what = named.map_or_else(
            || "no model is installed on this machine".to_owned(),
            |name| format!("the model {name} is not installed on this machine"),
        );
        let names = if wanted.len() == 1 { format!(" {}", wanted[0]) } else { String::new() };
        return Err(Failure::usage(what).next(format!("fetch it with `kamil models pull{names}`")));
    }
    if !agreed(&wanted).await? {
        return Err(Failure::usage("without a model Kamil cannot answer")
            .next("`kamil models pull` fetches one later"));
    }
    for name in &wanted {
        pull(context, name).await?;
    }
    Ok(())
}

/// The largest installed model that writes text.
pub(crate) fn writes(models: &ModelsDir) -> Result<Option<InstalledModel>, Failure> {
    let installed = models.list()?;
    let writers = installed
        .into_iter()
        .filter(|model| model.entry.is_none_or(|entry| entry.kind == ModelKind::Generate));
    Ok(writers.max_by_key(|model| model.bytes))
}

/// What this machine should have: the model that fits it best, and the one that finds memories.
pub(crate) fn recommended() -> Result<Vec<String>, Failure> {
    let free = kamil_node::hardware::probe().ram_available_bytes;
    let fit = kamil_models::fit(free);
    let Some(chosen) = fit.chosen else {
        let sums: Vec<String> = fit.candidates.iter().map(ToString::to_string).collect();
        return Err(Failure::failed(format!(
            "no model of the catalogue fits into {} of free memory: {}",
            bytes(free),
            sums.join("; ")
        ))
        .next("free some memory, or use a server: `kamil llm-node --engine-url URL`"));
    };
    let embedders = catalogue().iter().filter(|entry| entry.kind == ModelKind::Embed);
    Ok(std::iter::once(chosen).chain(embedders.map(|entry| entry.name)).map(str::to_owned).collect())
}

async fn agreed(names: &[String]) -> Result<bool, Failure> {
    let size = |name: &String| kamil_models::find(name).map_or(0, |entry| entry.bytes);
    let total = bytes(names.iter().map(size).sum());
    Stream::Err
        .text(format_args!("No model is installed yet. Fetch {} ({total})? [Y/n] ", names.join(" and ")));
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|read| (read, line))
    });
    match answer.await {
        Ok(Ok((read, line))) => {
            Ok(read > 0 && matches!(line.trim().to_lowercase().as_str(), "" | "y" | "yes"))
        }
        _ => Err(Failure::failed("the answer cannot be read")),
    }
}

/// Fetches a model, with a progress bar on a terminal. One that is there already costs nothing.
pub(crate) async fn pull(context: &Context, name: &str) -> Result<InstalledModel, Failure> {
    let models = folder(context);
    if let Ok(installed) = models.resolve(name) {
        return Ok(installed);
    }
    let bar = if Stream::Err.is_terminal() { ProgressBar::no_length() } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(name.to_owned());
    if bar.is_hidden() {
        terminal::note(format_args!("fetching {name}"));
    }
    let mut stop = Requests::listen();
    let pulled = models.pull(name, |progress| {
        if let Some(total) = progress.total_bytes {
            bar.set_length(total);
        }
        bar.set_position(progress.done_bytes);
    });
    let pulled = tokio::select! {
        pulled = pulled => pulled.map_err(Failure::from),
        () = stop.next() => {
            Err(Failure::failed(format!("fetching {name} was stopped")).next("the next `kamil models pull` goes on from here"))
        }
    };
    bar.finish_and_clear();
    let model = pulled?;
    terminal::note(format_args!("{} is here: {}, verified", model.name, bytes(model.bytes)));
    Ok(model)
}

impl From<ModelError> for Failure {
    /// The error's text already says what to do next.
    fn from(error: ModelError) -> Self {
        let exit = match error {
            ModelError::UnknownName { .. } | ModelError::NotInstalled { .. } => Exit::Usage,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}
