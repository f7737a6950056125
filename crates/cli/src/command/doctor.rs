//! `kamil doctor`
use crate::{context::Context, failure::{Exit, Failure}};
pub(super) async fn run(_context: &Context) -> Result<Exit, Failure> { Ok(Exit::Done) }
