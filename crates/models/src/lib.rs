//! The catalogue, verified downloads, import of embedding models, what fits
