//! `kamil openapi ROLE`

use crate::{
    arguments::OpenapiRole,
    failure::{Exit, Failure},
    terminal,
};

pub(super) fn run(role: OpenapiRole) -> Result<Exit, Failure> {
    let document = match role {
        OpenapiRole::Orchestrator => kamil_orchestrator::openapi(),
        OpenapiRole::Llm => kamil_llm::openapi(),
        OpenapiRole::Tool => kamil_tools::openapi(),
        OpenapiRole::Memory => kamil_memory::openapi(),
    };
    terminal::say_json(&document)?;
    Ok(Exit::Done)
}
