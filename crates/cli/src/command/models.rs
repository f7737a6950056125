//! `kamil models list|pull|rm|fit`

use kamil_models::{ModelKind, catalogue};
use serde::Serialize;

use crate::{
    arguments::ModelsAction,
    context::Context,
    failure::{Exit, Failure},
    models,
    table::{Table, bytes},
    terminal::{self, one_line, say},
};

/// A line of the list.
#[derive(Serialize)]
struct Known {
    name: String,
    kind: ModelKind,
    bytes: u64,
    installed: bool,
    specializations: Vec<&'static str>,
    licence: Option<&'static str>,
    title: Option<&'static str>,
}

pub(super) async fn run(context: &Context, action: ModelsAction) -> Result<Exit, Failure> {
    match action {
        ModelsAction::List => list(context),
        ModelsAction::Pull { name: Some(name) } => {
            let model = models::pull(context, &name).await?;
            report(context, &[model])
        }
        ModelsAction::Pull { name: None } => pull_recommended(context).await,
        ModelsAction::Rm { name } => {
            models::folder(context).remove(&name)?;
            if context.json {
                terminal::say_json(&serde_json::json!({ "removed": name }))?;
            } else {
                say(format_args!("the model {name} is removed"));
            }
            Ok(Exit::Done)
        }
        ModelsAction::Fit => fit(context),
    }
}

/// A larger model than the recommended one, fetched when more memory was free, is as good.
async fn pull_recommended(context: &Context) -> Result<Exit, Failure> {
    let largest = models::writes(&models::folder(context))?;
    let mut pulled = Vec::new();
    for name in models::recommended()? {
        let entry = kamil_models::find(&name);
        let writes = entry.is_some_and(|entry| entry.kind == ModelKind::Generate);
        match &largest {
            Some(model) if writes && entry.is_some_and(|entry| model.bytes >= entry.bytes) => {
                pulled.push(model.clone())
            }
            _ => pulled.push(models::pull(context, &name).await?),
        }
    }
    report(context, &pulled)
}

fn report(context: &Context, installed: &[kamil_models::InstalledModel]) -> Result<Exit, Failure> {
    if context.json {
        terminal::say_json(&installed)?;
    } else {
        for model in installed {
            say(format_args!("{} {}", model.name, model.path.display()));
        }
    }
    Ok(Exit::Done)
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let installed = models::folder(context).list()?;
    let mut known: Vec<Known> = catalogue()
        .iter()
        .map(|entry| Known {
            name: entry.name.to_owned(),
            kind: entry.kind,
            bytes: entry.bytes,
            installed: installed.iter().any(|model| model.entry == Some(entry)),
            specializations: entry.specializations.to_vec(),
            licence: Some(entry.licence),
            title: Some(entry.title),
        })
        .collect();
    known.extend(installed.iter().filter(|model| model.entry.is_none()).map(|model| Known {
        name: model.name.clone(),
        kind: ModelKind::Generate,
        bytes: model.bytes,
        installed: true,
        specializations: Vec::new(),
        licence: None,
        title: None,
    }));
    if context.json {
        terminal::say_json(&known)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["MODEL", "SIZE", "INSTALLED", "GOOD AT", "LICENCE", "TITLE"]);
    for model in &known {
        let good_at = match model.kind {
            ModelKind::Generate => model.specializations.join(", "),
            ModelKind::Embed => "finding memories".to_owned(),
        };
        table.row(vec![
            one_line(&model.name, 80),
            bytes(model.bytes),
            if model.installed { "yes" } else { "no" }.to_owned(),
            good_at,
            model.licence.unwrap_or("-").to_owned(),
            model.title.unwrap_or("-").to_owned(),
        ]);
    }
    table.show();
    Ok(Exit::Done)
}

fn fit(context: &Context) -> Result<Exit, Failure> {
    let free = kamil_node::hardware::probe().ram_available_bytes;
    let fit = kamil_models::fit(free);
    if context.json {
        terminal::say_json(&fit)?;
    } else {
        for candidate in &fit.candidates {
            say(candidate);
        }
        match fit.chosen {
            Some(chosen) => say(format_args!("Kamil would choose {chosen}")),
            None => say("no model of the catalogue fits"),
        }
    }
    Ok(if fit.chosen.is_some() { Exit::Done } else { Exit::Failed })
}
