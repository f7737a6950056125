//! The tool node: registry, permissions, built-in tools
