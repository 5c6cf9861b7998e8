//! Hooks in the same process: authorization, storage paths, and validation.

use async_trait::async_trait;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use landfall::{
    Composer, Config, Handler,
    hook::{
        Access, ClientResponse, CreateDecision, Decision, Hook, HookPoints, Intent, RequestInfo,
    },
    store::{BoxError, file::FileStore},
    upload::{Metadata, Snapshot, Upload, UploadId},
};

/// Requires a password for all operations that change something.
#[derive(Debug)]
struct Password(&'static str);

#[async_trait]
impl Hook for Password {
    fn points(&self) -> HookPoints {
        HookPoints {
            on_access: true,
            ..HookPoints::default()
        }
    }

    async fn on_access(
        &self,
        request: &RequestInfo,
        access: &Access<'_>,
    ) -> Result<Decision, BoxError> {
        let given = request
            .headers
            .get("authorization")
            .map(|value| value.as_bytes());
        let is_allowed = matches!(access.intent, Intent::Inspect | Intent::Read)
            || given == Some(format!("Bearer {}", self.0).as_bytes());
        Ok(if is_allowed {
            Decision::allow()
        } else {
            Decision::Deny(ClientResponse::text(401, "password required\n"))
        })
    }
}

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
    let port = args
        .next()
        .and_then(|port| port.parse().ok())
        .unwrap_or(8080);
    let dir = args.next().unwrap_or_else(|| "./data".into());
    let config = Config::new(Composer::join(FileStore::new(dir)?))
        .hook(Password("sesame"))
        .hook(UploadRules);
    let uploads = Handler::new(config)?;

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/files/", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(uploads.clone());
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .half_close(true)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
