//! The page in a real Chromium, against a scripted orchestrator.

mod browser;
mod chat;
mod hostile;
mod hub;
mod looks;
mod markdown;
mod panels;
mod steps;
