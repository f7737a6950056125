//! The launcher alone, for programs that embed the library without being `kamil`, and for the tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    kamil_sandbox::launcher::run_if_requested();
    ExitCode::from(2)
}
