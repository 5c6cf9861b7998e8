//! Uploads files, several at a time, and shows the progress. Started again, it resumes.
//!
//! ```sh
//! cargo run -p landfall-client --example upload -- http://localhost:8080/files/ video.mp4
//! ```

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use landfall_client::{Client, Error, Event, FileFingerprints, Source};

const CONCURRENT_FILES: usize = 8;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let endpoint = args.next().ok_or("usage: upload URL FILE...")?;
    let mut builder = Client::builder();
    if let Some(store) = FileFingerprints::in_state_directory() {
        builder = builder.fingerprints(store);
    }
    let client = builder.build()?;
    let (client, endpoint) = (&client, &endpoint);
    stream::iter(args)
        .map(|path| async move {
            let name = path.clone();
            let upload = client
                .upload(endpoint, Source::file(&path))
                .metadata("filename", path.rsplit('/').next().unwrap_or_default())
                .on_event(move |event| match event {
                    Event::Progress(progress) => eprint!("\r{name}: {} bytes", progress.bytes),
                    Event::Retrying { error, delay, .. } => {
                        eprintln!("\n{name}: {error}; trying again in {delay:?}");
                    }
                    _ => {}
                });
            let completed = upload.run().await?;
            println!("\n{path} is at {}", completed.url);
            let (sent, length) = (completed.bytes_sent, completed.length);
            eprintln!(
                "{sent} bytes sent by {} requests, of {length}",
                completed.requests
            );
            Ok::<_, Error>(())
        })
        .buffer_unordered(CONCURRENT_FILES)
        .try_collect::<()>()
        .await?;
    Ok(())
}
