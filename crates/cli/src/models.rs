//! Models that must be there before something starts.

use crate::{context::Context, failure::Failure};

pub(crate) async fn make_ready(_context: &Context, _model: Option<&str>) -> Result<(), Failure> {
    Ok(())
}
