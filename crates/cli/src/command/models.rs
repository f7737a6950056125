//! `kamil models`
use crate::{arguments::ModelsAction, context::Context, failure::{Exit, Failure}};
pub(super) async fn run(_context: &Context, _action: ModelsAction) -> Result<Exit, Failure> { Ok(Exit::Done) }
