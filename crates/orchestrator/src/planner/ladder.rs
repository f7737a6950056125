//! From a model's reply to the steps of a plan, and what is tried when there is none. Tasks and previews decide by this alone.

use kamil_plan::graph::{self, Author};
use kamil_protocol::{task::StepSpec, tool::ToolDescriptor};

use super::{Context, numbering::number_on, planning::parse_plan, rules::rule_based, tidy::Plan};

/// Replies that one model may get wrong: the first and two repairs.
const REPLIES_OF_ONE_MODEL: u32 = 3;

/// What is tried after a reply that was no valid plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// The same model is told what is wrong.
    Repair,
    /// Another model starts afresh.
    AnotherModel,
    /// Simple rules, or an answer without a plan.
    WithoutModel,
}

/// What follows the reply that is the `replies`th invalid one.
#[must_use]
pub fn next_rung(replies: u32, another_model: bool) -> Rung {
    match replies {
        REPLIES_OF_ONE_MODEL if another_model => Rung::AnotherModel,
        replies if replies < REPLIES_OF_ONE_MODEL => Rung::Repair,
        _ => Rung::WithoutModel,
    }
}

/// Reads a reply and checks the steps against the graph and the tools; no steps mean that no tool is needed.
///
/// # Errors
/// What is wrong with the plan, in words for the model.
pub fn read(ctx: &Context<'_>, existing: &[&StepSpec], reply: &str) -> Result<Plan, String> {
    let mut plan = parse_plan(ctx, reply)?;
    number_on(existing, &mut plan.steps);
    graph::validate(Author::Planner, existing, &plan.steps, ctx.tools).map_err(|error| error.to_string())?;
    Ok(plan)
}

/// Whether every step names a tool and fits its schema, as far as its inputs are known before anything has run.
#[must_use]
pub fn fits_tools(steps: &[StepSpec], tools: &[ToolDescriptor]) -> bool {
    graph::validate(Author::Planner, &[], steps, tools).is_ok()
}

/// The last rung: the step that simple rules choose, or none, and which of these it was, for the person.
#[must_use]
pub fn without_model(ctx: &Context<'_>, existing: &[&StepSpec]) -> (&'static str, Vec<StepSpec>) {
    let ruled =
        rule_based(ctx).filter(|steps| graph::validate(Author::Planner, existing, steps, ctx.tools).is_ok());
    match ruled {
        Some(steps) => ("the step to run was chosen by simple rules", steps),
        None => ("the answer was written without running any tool", Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_ends() {
        let way = |another| (1..=5).map(|replies| next_rung(replies, another)).collect::<Vec<_>>();
        use Rung::{AnotherModel, Repair, WithoutModel};
        assert_eq!(way(false), [Repair, Repair, WithoutModel, WithoutModel, WithoutModel]);
        assert_eq!(way(true), [Repair, Repair, AnotherModel, WithoutModel, WithoutModel]);
    }
}
