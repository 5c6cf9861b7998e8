//! The upload of one file.

use std::{
    cell::{Cell, OnceCell},
    fs,
    pin::pin,
    time::Duration,
};

use landfall_client::{Client, Completed, Error, Source, Upload, Url};

use super::{arguments::Options, target::Grants};
use crate::{
    exit::{Failure, FailureClass},
    interrupt::Interrupt,
    report::{Report, Transfer, TransferSummary},
    selection::{FileVersion, SelectedFile},
};

/// The time in which an interrupted upload ends its requests.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
const UNAUTHORIZED: u16 = 401;
const MISSING_CREDENTIALS: &str = "check --bearer, --token, --header or --cookie; a server that grants uploads needs an \
                                   API key (--key) or the URL of an upload link";
/// Advice about files that were not started.
const SAME_COMMAND: &str = "run the same command again";
const OTHER_CREDENTIALS: &str = "credentials that the server accepts are needed";

/// The uploads of a command.
#[derive(Debug)]
pub(super) struct UploadContext {
    client: Client,
    pub(super) endpoint: Url,
    grants: Option<Grants>,
    pub(super) options: Options,
    pub(super) report: Report,
    interrupt: Interrupt,
    /// Set once further uploads would fail as well: advice about the files that were not started.
    pub(super) remedy: OnceCell<&'static str>,
    /// True if standard input is uploaded.
    pub(super) has_stream: Cell<bool>,
}

/// The result of a file.
#[derive(Debug)]
pub(super) enum FileResult {
    Uploaded {
        url: String,
        version: FileVersion,
    },
    Failed(FailureClass),
    /// An earlier failure or an interruption stopped the command.
    NotStarted,
}

impl FileResult {
    pub(super) fn class(&self) -> Option<FailureClass> {
        match self {
            Self::Failed(class) => Some(*class),
            Self::Uploaded { .. } | Self::NotStarted => None,
        }
    }
}

impl UploadContext {
    pub(super) fn new(
        client: Client,
        endpoint: Url,
        grants: Option<Grants>,
        options: Options,
        report: Report,
        interrupt: Interrupt,
    ) -> Self {
        Self {
            client,
            endpoint,
            grants,
            options,
            report,
            interrupt,
            remedy: OnceCell::new(),
            has_stream: Cell::new(false),
        }
    }

    /// Uploads a file, and reports the result.
    pub(super) async fn upload_file(&self, file: &SelectedFile) -> FileResult {
        if self.interrupt.is_set() {
            return FileResult::Failed(FailureClass::Interrupted);
        }
        if self.remedy.get().is_some() {
            return FileResult::NotStarted;
        }
        // It may have changed since the selection, which may be long ago.
        let version = match FileVersion::read(&file.path) {
            Ok(version) => version,
            Err(error) => {
                let message = format!("failed to read {}: {error}", file.path.display());
                self.report.fail(&message, Some(file.version.length));
                return FileResult::Failed(FailureClass::Failed);
            }
        };
        let filename = self.options.name.clone().unwrap_or_else(|| file.filename());
        let path = file.relative_path.as_deref();
        let mut upload = self.prepare(Source::file(&file.path), Some(&filename), path);
        let transfer = self.report.transfer(&file.name(), Some(version.length));
        let resumes = |grants: &&Grants| {
            self.options.resume && grants.has_unfinished(&file.path, version.length)
        };
        if let Some(grants) = self.grants.as_ref().filter(|grants| !resumes(grants)) {
            let (size, filetype) = (Some(version.length), media_type(&filename));
            match grants.request(&filename, size, filetype, path).await {
                Ok((name, token)) => upload = upload.header(name, token),
                Err(failure) => return self.fail(&transfer, &failure, None),
            }
        }
        match self.run(upload, &transfer, version).await {
            FileResult::Uploaded { url, version } if self.options.delete_source => {
                match self.delete_source(file, version, &url).await {
                    Ok(()) => FileResult::Uploaded { url, version },
                    Err(reason) => {
                        let path = file.path.display();
                        self.report
                            .error(&format!("{path} is uploaded but not deleted: {reason}"));
                        FileResult::Failed(FailureClass::Failed)
                    }
                }
            }
            result => result,
        }
    }

    /// Uploads standard input.
    pub(super) async fn upload_stdin(&self) -> FileResult {
        let length = self.options.size;
        self.has_stream.set(true);
        let (name, source) = (self.options.name.as_deref(), tokio::io::stdin());
        let mut upload = self.prepare(Source::stream(source, length), name, None);
        let name = name.unwrap_or("standard input");
        let transfer = self.report.transfer(name, length);
        if let Some(grants) = &self.grants {
            match grants.request(name, length, None, None).await {
                Ok((name, token)) => upload = upload.header(name, token),
                Err(failure) => return self.fail(&transfer, &failure, None),
            }
        }
        let version = FileVersion {
            length: length.unwrap_or_default(),
            modified: None,
        };
        self.run(upload, &transfer, version).await
    }

    /// Creates an upload with the options, and metadata that these do not have.
    fn prepare(&self, source: Source, filename: Option<&str>, path: Option<&str>) -> Upload {
        let options = &self.options;
        let mut upload = self
            .client
            .upload(&self.endpoint, source)
            .parallel(options.parts)
            .chunk_size(options.chunk_size)
            .resume(options.resume);
        for (key, value) in &options.metadata {
            upload = upload.metadata(key, value.as_str());
        }
        for (key, value) in [
            ("filename", filename),
            ("filetype", filename.and_then(media_type)),
            ("relativePath", path),
        ] {
            let is_set = options.metadata.iter().any(|(name, _)| name == key);
            if let Some(value) = value.filter(|_| !is_set) {
                upload = upload.metadata(key, value);
            }
        }
        if let Some(algorithm) = options.checksum {
            upload = upload.checksum(algorithm);
        }
        if let Some(token) = &options.token {
            upload = upload.token(token);
        }
        if let Some(url) = &options.url {
            upload = upload.url(url);
        }
        upload
    }

    async fn run(&self, upload: Upload, transfer: &Transfer, version: FileVersion) -> FileResult {
        let upload = upload.on_event(transfer.callback());
        let result = match self.options.create_only {
            true => self.create(upload, transfer).await,
            false => self.transfer(upload).await.map(|completed| {
                let summary = TransferSummary {
                    url: completed.url.into(),
                    length: completed.length,
                    bytes: completed.bytes_sent,
                    resumed_from: Some(completed.resumed_from),
                    verified: None,
                };
                transfer.complete(&summary);
                summary.url
            }),
        };
        let error = match result {
            Ok(url) => {
                transfer.print_url(&url);
                return FileResult::Uploaded { url, version };
            }
            Err(error) => error,
        };
        if matches!(error, Error::Cancelled) {
            transfer.interrupt();
            return FileResult::Failed(FailureClass::Interrupted);
        }
        let status = error.rejection().map(|rejection| rejection.status.as_u16());
        let failure = match &error {
            Error::Rejected(_) if matches!(status, Some(404 | 405 | 501)) => Failure::with_advice(
                &error,
                Some("check the URL: the server creates no uploads there"),
            ),
            // Those of a grant are not the user's.
            Error::Unauthorized(_) if status == Some(UNAUTHORIZED) && self.grants.is_none() => {
                let flag = self.options.key_flag;
                let flag = flag.map(|flag| format!("--{flag} is an API key: give it with --key"));
                let advice = flag.as_deref().unwrap_or(MISSING_CREDENTIALS);
                Failure::with_advice(&error, Some(advice))
            }
            Error::SourceChanged(_) if self.has_stream.get() => {
                Failure::with_advice(&error, Some("check --size"))
            }
            _ => Failure::from(error),
        };
        self.fail(transfer, &failure, status)
    }

    /// Reports a failure. `status` is that of the upload; there is none if it was not granted.
    fn fail(&self, transfer: &Transfer, failure: &Failure, status: Option<u16>) -> FileResult {
        // Each further file would take all attempts or be denied, too. The first reason counts.
        let remedy = match (failure.class, status, &self.grants) {
            (FailureClass::Unreachable, None, _) => Some(SAME_COMMAND),
            (FailureClass::Unauthorized, None, Some(grants)) => Some(grants.remedy()),
            // Another run requests other grants.
            (FailureClass::Unauthorized, Some(UNAUTHORIZED), Some(_)) => Some(SAME_COMMAND),
            (FailureClass::Unauthorized, Some(UNAUTHORIZED), None) => Some(OTHER_CREDENTIALS),
            _ => None,
        };
        if let Some(remedy) = remedy {
            self.remedy.get_or_init(|| remedy);
        }
        transfer.fail(failure, status);
        FileResult::Failed(failure.class)
    }

    async fn create(&self, upload: Upload, transfer: &Transfer) -> Result<String, Error> {
        tokio::select! {
            url = upload.create() => url.map(|url| {
                transfer.create();
                url.into()
            }),
            () = self.interrupt.wait() => Err(Error::Cancelled),
        }
    }

    /// Runs an upload until it ends or the user interrupts it.
    async fn transfer(&self, upload: Upload) -> Result<Completed, Error> {
        let control = upload.control();
        let mut run = pin!(upload.run());
        tokio::select! {
            result = &mut run => return result,
            () = self.interrupt.wait() => control.cancel(),
        }
        let result = tokio::time::timeout(STOP_TIMEOUT, run).await;
        result.unwrap_or(Err(Error::Cancelled))
    }

    /// Deletes the file if the server has all of it, and it has not changed since.
    async fn delete_source(
        &self,
        file: &SelectedFile,
        version: FileVersion,
        url: &str,
    ) -> Result<(), String> {
        let status = self.client.inspect(url).await;
        let status = status.map_err(|error| Failure::from(error).to_string())?;
        if status.offset != version.length
            || status.length.is_some_and(|length| length != version.length)
        {
            let (offset, length) = (status.offset, version.length);
            return Err(format!("the server has {offset} of {length} bytes"));
        }
        match FileVersion::read(&file.path) {
            Ok(current) if current == version => {}
            Ok(_) => return Err("it changed after the upload".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
        fs::remove_file(&file.path).map_err(|error| error.to_string())?;
        self.report.delete(&file.name());
        Ok(())
    }
}

fn media_type(filename: &str) -> Option<&'static str> {
    mime_guess::from_path(filename).first_raw()
}
