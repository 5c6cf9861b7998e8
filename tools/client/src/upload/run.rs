//! Runs an upload: opens the source, finds an earlier upload, and chooses protocol and extensions.

use std::sync::Arc;

use url::Url;

use super::{
    ChunkSender, Completed, Dialect, OpenedUpload, Upload, open_record, parallel,
    transfer::{Job, Transfer},
};
use crate::{
    Capabilities, Error, Protocol, direct,
    fingerprint::PartRecord,
    http::Session,
    progress::Meter,
    rate_limit::RateLimiter,
    shared::{Shared, capabilities, parse_url},
    source::Content,
};

pub(super) async fn run(upload: Upload) -> Result<Completed, Error> {
    let Upload {
        client,
        endpoint,
        source,
        settings,
        callback,
        control,
    } = upload;
    if let Some(reason) = settings.invalid {
        return Err(Error::Configuration(reason));
    }
    let endpoint = parse_url(&endpoint)?;
    let content = match control.guard(source.open()).await {
        Ok(content) => content?,
        Err(_) => return Err(Error::Cancelled),
    };
    let meter = Meter::new(callback, content.length());
    let session = Arc::new(client.session(&endpoint, settings.all_headers()?, control, meter));
    let own_limiter = settings.rate_limit.map(RateLimiter::new).map(Arc::new);
    let sender = ChunkSender {
        session: session.clone(),
        limiters: own_limiter
            .into_iter()
            .chain(client.limiter.clone())
            .collect(),
        checksum: settings.checksum,
        uses_trailer: settings.uses_trailer,
    };
    let run = OpenedUpload {
        client,
        settings: Arc::new(settings),
        endpoint,
        content,
        sender,
    };
    let completed = match run.settings.direct {
        Some(mode) => direct::run(run, mode).await?,
        None => resumable(run).await?,
    };
    session.meter.emit_progress();
    Ok(completed)
}

async fn resumable(run: OpenedUpload) -> Result<Completed, Error> {
    let OpenedUpload {
        client,
        settings,
        endpoint,
        content,
        mut sender,
    } = run;
    let session = sender.session.clone();
    let capabilities = discover(&client, &session, &endpoint).await?;
    if let (Some(max), Some(length)) = (capabilities.max_size, content.length())
        && length > max
    {
        let what = format!("{length} bytes; at most {max} are allowed");
        return Err(Error::Unsupported(what));
    }
    let dialect = match (client.protocol, capabilities.tus, capabilities.draft) {
        (Protocol::Draft, ..) | (Protocol::Auto, false, Some(_)) => Dialect::newest(),
        (Protocol::Tus | Protocol::Auto, ..) => Dialect::Tus,
    };
    choose_checksum(&mut sender, dialect, &capabilities)?;
    let (recorder, record) = open_record(
        &client,
        &settings,
        &endpoint,
        &content,
        dialect.name(),
        &session,
    )
    .await?;
    let mut job = Job {
        client,
        settings,
        endpoint,
        capabilities,
        sender,
        recorder,
    };
    let parts = match record {
        Some(record) => record.parts,
        None => {
            let parts = parallel::plan(&job, &content, dialect);
            if let Some(recorder) = &job.recorder {
                recorder.start(dialect.name(), parts.clone());
            }
            parts
        }
    };
    let file = match &content {
        Content::File(file) => Some(file.clone()),
        _ => None,
    };
    let transferred = match parts.as_slice() {
        [] | [_] => {
            let recorded = parts.first().and_then(PartRecord::parsed_url);
            let url = match &job.settings.url {
                Some(url) => Some(job.endpoint.join(url).map_err(|error| {
                    Error::Configuration(format!("the URL {url:?} is invalid: {error}"))
                })?),
                None => recorded,
            };
            let transfer = Transfer::new(job.clone(), content, dialect).resuming(url);
            transfer.run().await?
        }
        parts => Box::pin(parallel::run(&mut job, content, parts)).await?,
    };
    if let (Some(recorder), Some(file), false) = (&job.recorder, &file, job.settings.creates_only) {
        match job.client.forgets_finished {
            true => recorder.remove().await?,
            false => recorder.finish(&transferred.url, file).await?,
        }
    }
    Ok(Completed {
        url: transferred.url,
        length: transferred.length,
        bytes_sent: session.meter.transferred(),
        requests: session.requests(),
        resumed_from: transferred.resumed_from,
        response: transferred.response,
    })
}

/// Returns what the server supports, once per endpoint. A server that does not respond to OPTIONS has tus.
async fn discover(
    client: &Shared,
    session: &Session,
    endpoint: &Url,
) -> Result<Capabilities, Error> {
    if let Some(found) = client.hosts.capabilities(endpoint) {
        return Ok(found);
    }
    let backoff = client.backoff();
    let found = session.retried(backoff, || async move {
        match capabilities(session, endpoint).await {
            Ok(found) if found.tus || found.draft.is_some() => Ok(found),
            Ok(_) | Err(Error::Rejected(_) | Error::Gone(_) | Error::Unauthorized(_)) => {
                Ok(Capabilities::assumed())
            }
            Err(error) => Err(error),
        }
    });
    let found = found.await?;
    client.hosts.set_capabilities(endpoint, found.clone());
    Ok(found)
}

fn choose_checksum(
    sender: &mut ChunkSender,
    dialect: Dialect,
    capabilities: &Capabilities,
) -> Result<(), Error> {
    let Some(algorithm) = sender.checksum else {
        return Ok(());
    };
    let is_supported = match dialect {
        Dialect::Tus => capabilities.checksum_algorithms.contains(&algorithm),
        Dialect::Draft(_) => matches!(algorithm.name(), "sha256" | "sha512"),
    };
    if !is_supported {
        return Err(Error::Unsupported(format!("checksums by {algorithm}")));
    }
    sender.uses_trailer &= dialect == Dialect::Tus && capabilities.has("checksum-trailer");
    Ok(())
}
