//! Custom routes with the single handlers: uploads are created with POST at `/videos`; all other
//! operations use `/videos/by-id/ID`.

use axum::{
    Router,
    extract::{Path, Request, State},
    routing::{MethodFilter, MethodRouter, any, on},
};
use http::Response;
use landfall::{
    Composer, Config, Handler, LocationStyle, service::ResponseBody, store::file::FileStore,
};

async fn create(State(uploads): State<Handler>, request: Request) -> Response<ResponseBody> {
    uploads.create(request).await
}

async fn inspect(
    State(uploads): State<Handler>,
    Path(id): Path<String>,
    request: Request,
) -> Response<ResponseBody> {
    uploads.inspect(&id, request).await
}

async fn append(
    State(uploads): State<Handler>,
    Path(id): Path<String>,
    request: Request,
) -> Response<ResponseBody> {
    uploads.append(&id, request).await
}

async fn download(
    State(uploads): State<Handler>,
    Path(id): Path<String>,
    request: Request,
) -> Response<ResponseBody> {
    uploads.download(&id, request).await
}

async fn terminate(
    State(uploads): State<Handler>,
    Path(id): Path<String>,
    request: Request,
) -> Response<ResponseBody> {
    uploads.terminate(&id, request).await
}

async fn options(State(uploads): State<Handler>, request: Request) -> Response<ResponseBody> {
    uploads.options(request).await
}

fn upload_routes() -> MethodRouter<Handler> {
    // HEAD first, because axum's GET also handles it.
    on(MethodFilter::HEAD, inspect)
        .on(MethodFilter::GET, download)
        .on(MethodFilter::PATCH, append)
        .on(MethodFilter::DELETE, terminate)
        .on(MethodFilter::OPTIONS, options)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port = args
        .next()
        .and_then(|port| port.parse().ok())
        .unwrap_or(8080);
    let dir = args.next().unwrap_or_else(|| "./data".into());

    let mut config = Config::new(Composer::join(FileStore::new(dir)?));
    config.base_path = "/videos/by-id/".into();
    config.location = LocationStyle::Relative;
    let app = Router::new()
        .route(
            "/videos",
            on(MethodFilter::POST, create).on(MethodFilter::OPTIONS, options),
        )
        .route("/videos/by-id/{*id}", upload_routes())
        .fallback(any(|| async {
            (http::StatusCode::NOT_FOUND, "not found\n")
        }))
        .with_state(Handler::new(config)?);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/videos", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
