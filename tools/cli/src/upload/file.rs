//! The upload of one file.

use std::{cell::Cell, fs, pin::pin, time::Duration};

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

/// The uploads of a command.
#[derive(Debug)]
pub(super) struct UploadContext {
    client: Client,
    pub(super) endpoint: Url,
    grants: Option<Grants>,
    pub(super) options: Options,
    pub(super) report: Report,
    interrupt: Interrupt,
    /// True if further uploads would fail as well.
    is_stopped: Cell<bool>,
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
            is_stopped: Cell::new(false),
            has_stream: Cell::new(false),
        }
    }

    /// Uploads a file, and reports the result.
    pub(super) async fn upload_file(&self, file: &SelectedFile) -> FileResult {
        if self.interrupt.is_set() {
            return FileResult::Failed(FailureClass::Interrupted);
        }
        if self.is_stopped.get() {
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
        let mut upload = self.prepare(Source::file(&file.path));
        let filename = self.options.name.clone().unwrap_or_else(|| file.filename());
        let media_type = mime_guess::from_path(&filename).first_raw();
        let transfer = self.report.transfer(&file.name(), Some(version.length));
        let resumes = |grants: &&Grants| {
            self.options.resume && grants.has_unfinished(&file.path, version.length)
        };
        if let Some(grants) = self.grants.as_ref().filter(|grants| !resumes(grants)) {
            let path = file.relative_path.as_deref();
            let grant = grants.request(&filename, Some(version.length), media_type, path);
            match grant.await {
                Ok((name, token)) => upload = upload.header(name, token),
                Err(failure) => return self.fail(&transfer, &failure),
            }
        }
        let defaults = [
            ("filename", Some(filename)),
            ("filetype", media_type.map(str::to_owned)),
            ("relativePath", file.relative_path.clone()),
        ];
        for (key, value) in defaults {
            if let Some(value) = value.filter(|_| !self.has_metadata(key)) {
                upload = upload.metadata(key, value);
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
        let mut upload = self.prepare(Source::stream(tokio::io::stdin(), length));
        if let Some(name) = &self.options.name {
            if !self.has_metadata("filename") {
                upload = upload.metadata("filename", name.as_str());
            }
            if let Some(media_type) = mime_guess::from_path(name).first_raw()
                && !self.has_metadata("filetype")
            {
                upload = upload.metadata("filetype", media_type);
            }
        }
        let name = self.options.name.as_deref().unwrap_or("standard input");
        let transfer = self.report.transfer(name, length);
        if let Some(grants) = &self.grants {
            match grants.request(name, length, None, None).await {
                Ok((name, token)) => upload = upload.header(name, token),
                Err(failure) => return self.fail(&transfer, &failure),
            }
        }
        let version = FileVersion {
            length: length.unwrap_or_default(),
            modified: None,
        };
        self.run(upload, &transfer, version).await
    }

    fn has_metadata(&self, key: &str) -> bool {
        self.options.metadata.iter().any(|(name, _)| name == key)
    }

    fn prepare(&self, source: Source) -> Upload {
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
        let has_response = status.is_some();
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
        // Each further file would take all attempts, too.
        if status == Some(UNAUTHORIZED)
            || failure.class == FailureClass::Unreachable && !has_response
        {
            self.is_stopped.set(true);
        }
        transfer.fail(&failure, status);
        FileResult::Failed(failure.class)
    }

    /// Reports that an upload was not granted.
    fn fail(&self, transfer: &Transfer, failure: &Failure) -> FileResult {
        // Each further file would fail, too.
        if matches!(
            failure.class,
            FailureClass::Unreachable | FailureClass::Unauthorized
        ) {
            self.is_stopped.set(true);
        }
        transfer.fail(failure, None);
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
