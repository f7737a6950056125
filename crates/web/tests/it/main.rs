//! The page in a real Chromium, against a scripted orchestrator.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's own scaffolding fails loudly"
)]

mod browser;
mod chat;
mod hostile;
mod hub;
mod looks;
mod markdown;
mod panels;
mod steps;
