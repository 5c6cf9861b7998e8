//! Hooks in the same process: authorization as a closure; storage paths and validation as a trait.

use axum::Router;
use landfall::{
    BoxError, Config, Handler, async_trait,
    hook::{ClientResponse, CreateDecision, Decision, Hook, HookPoints, Intent, RequestInfo},
    http,
    store::file::FileStore,
    upload::{Metadata, Snapshot, Upload, UploadId},
};

/// Sorts files into folders by type, limits them to 1 MiB, and keeps complete files from being deleted.
#[derive(Debug)]
struct UploadRules;

#[async_trait]
impl Hook for UploadRules {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_create: true,
            before_finish: true,
            before_terminate: true,
            ..HookPoints::default()
        }
    }

    async fn before_create(
        &self,
        _request: &RequestInfo,
        upload: &Upload,
    ) -> Result<CreateDecision, BoxError> {
        if upload.length.is_none_or(|length| length > 1 << 20) {
            return Ok(CreateDecision::deny(ClientResponse::text(
                413,
                "maximum size is 1 MiB, and the length is required\n",
            )));
        }
        let filetype = upload.metadata.get_text("filetype").unwrap_or_default();
        let folder = if filetype.starts_with("image/") {
            "images"
        } else {
            "others"
        };
        let id = UploadId::new(&format!("{folder}/{}", upload.id))?;
        let keep = ["filename", "filetype"];
        let metadata = upload.metadata.iter().filter(|(key, _)| keep.contains(key));
        Ok(CreateDecision::allow()
            .storage("Path", format!("{folder}/{}.bin", upload.id))
            .metadata(Metadata::from_pairs(metadata))
            .id(id))
    }

    async fn before_finish(
        &self,
        _request: &RequestInfo,
        upload: &Snapshot,
    ) -> Result<Decision, BoxError> {
        Ok(Decision::Allow(ClientResponse::default().header(
            http::HeaderName::from_static("x-stored-bytes"),
            upload.offset.into(),
        )))
    }

    async fn before_terminate(
        &self,
        _request: &RequestInfo,
        upload: &Snapshot,
    ) -> Result<Decision, BoxError> {
        Ok(if upload.is_complete() {
            Decision::Deny(ClientResponse::text(
                409,
                "complete files cannot be deleted\n",
            ))
        } else {
            Decision::allow()
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().map_or(Ok(8080), |port| port.parse())?;
    let dir = args.next().unwrap_or_else(|| "./data".into());
    let config = Config::new(FileStore::new(dir)?)
        // A password for all operations that change something.
        .on_access(|request, access| async move {
            let given = request.headers.get("authorization");
            let is_reading = matches!(access.intent, Intent::Inspect | Intent::Read);
            Ok(
                match is_reading || given.is_some_and(|it| it == "Bearer sesame") {
                    true => Decision::allow(),
                    false => Decision::Deny(ClientResponse::text(401, "password required\n")),
                },
            )
        })
        .hook(UploadRules);
    let uploads = Handler::new(config)?;

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/files/", listener.local_addr()?);
    axum::serve(listener, Router::new().merge(uploads.router())).await?;
    Ok(())
}
