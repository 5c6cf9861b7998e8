//! Programs as people write them after `docs/embedding.md`: `embedded PROGRAM PORT DIRECTORY`.
//!
//! The tests kill and repeat them. They must stay what a user writes: a test that fails is mended in the library.

mod composer;
mod layers;
mod own_sink;
mod photo_library;

use std::path::PathBuf;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Result {
    let mut args = std::env::args().skip(1);
    let program = args.next().ok_or("which program?")?;
    let port = args.next().ok_or("which port?")?.parse()?;
    let dir = PathBuf::from(args.next().ok_or("which directory?")?);
    match &*program {
        "photo_library" => photo_library::run(port, dir).await,
        "own_sink" => own_sink::run(port, dir).await,
        "layers" => layers::run(port, dir).await,
        "composer" => composer::run(port, dir).await,
        other => Err(format!("there is no program {other}").into()),
    }
}
