//! llama.cpp in process: generation, constrained decoding, embeddings
