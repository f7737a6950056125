//! The pages and their small scripts, embedded in the binary
