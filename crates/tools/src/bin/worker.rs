//! The confined halves of the tool node alone, for its tests: launcher of the sandbox and worker of `ml_tools`.

fn main() {
    kamil_sandbox::launcher::run_if_requested();
    kamil_tools::worker::run_if_requested();
}
