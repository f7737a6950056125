//! Fetches models into a folder, for tests and experiments that need them beforehand.
//!
//! ```text
//! cargo run -p kamil-models --example pull -- FOLDER NAME…
//! ```

use kamil_models::ModelsDir;

#[expect(clippy::print_stdout, reason = "a command-line example")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = ModelsDir::new(arguments.next().ok_or("give a folder and the names of models")?);
    for name in arguments {
        let model = dir.pull(&name, |_| {}).await?;
        println!("{} {}", model.sha256.as_deref().unwrap_or("-"), model.path.display());
    }
    Ok(())
}
