//! `kamil completions SHELL`

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{arguments::Arguments, failure::Exit};

pub(super) fn run(shell: Shell) -> Exit {
    clap_complete::generate(shell, &mut Arguments::command(), "kamil", &mut std::io::stdout());
    Exit::Done
}
