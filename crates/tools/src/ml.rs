//! Small models on tabular data: what `ml_tools` computes, inside the confined worker.

pub(crate) mod dataset;
pub(crate) mod metrics;
pub(crate) mod model;
pub(crate) mod split;
