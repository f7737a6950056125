//! The LLM node
