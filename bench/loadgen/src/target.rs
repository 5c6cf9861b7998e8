//! The measured server as the client sees it: how an upload is made, continued, asked and read
//! back, over tus or over plain PUT.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::fleet::Server;
use crate::grants::Grants;
use crate::http::{Connection, Fault};
use crate::pattern::Pattern;

/// Bodies up to this size leave in one write together with their request head.
const ONE_WRITE: u64 = 128 << 10;

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// tus 1.0.0.
    Tus,
    /// PUT of whole objects: no offset, no resumption.
    Put,
}

/// How small uploads are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Creation {
    /// One POST with the bytes where the server announces creation-with-upload.
    WithUpload,
    /// A POST, then a PATCH.
    ThenPatch,
}

/// One upload on the server, and what its bytes must be.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    /// Path of its URL.
    pub(crate) path: String,
    /// Where its pattern begins.
    pub(crate) phase: u64,
    /// Its full length in bytes.
    pub(crate) length: u64,
}

/// The measured server.
#[derive(Debug)]
pub(crate) struct Target {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What it speaks.
    pub(crate) kind: Kind,
    /// What is sent.
    pub(crate) pattern: Pattern,
    path: String,
    with_upload: bool,
    made: AtomicU64,
    /// Where each creation gets its leave, if it takes one.
    grants: Option<Grants>,
    /// A field that each request has besides.
    forwarded: String,
}

impl Server for Target {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Whether small uploads take one request.
    fn one_request_each(&self) -> bool {
        self.with_upload || self.kind == Kind::Put
    }
}

impl Target {
    /// Asks the server what it can do.
    ///
    /// # Errors
    /// When it gives no answer to OPTIONS.
    pub(crate) fn discover(
        address: SocketAddr,
        path: String,
        kind: Kind,
        creation: Creation,
    ) -> Result<Self, Fault> {
        let pattern = Pattern::new();
        let mut target = Self {
            address,
            kind,
            pattern,
            path,
            with_upload: false,
            made: AtomicU64::new(0),
            grants: None,
            forwarded: String::new(),
        };
        if kind == Kind::Tus {
            let mut connection = Connection::open(address)?;
            let request = target.head("OPTIONS", &target.path, "");
            connection.begin(request.as_bytes())?;
            let reply = connection.reply(false, |_| Ok(()))?;
            reply.expect("OPTIONS", &[200, 204])?;
            let extensions = reply.extensions.unwrap_or_default();
            let announced = extensions
                .split(',')
                .any(|name| name.trim() == "creation-with-upload");
            target.with_upload = announced && creation == Creation::WithUpload;
        }
        Ok(target)
    }

    /// Shows a token of `grants` with each creation, from now on.
    ///
    /// # Errors
    /// When the server creates uploads without one, too: then nothing would be measured.
    pub(crate) fn with_grants(mut self, grants: Grants) -> Result<Self, Fault> {
        let mut connection = Connection::open(self.address)?;
        let request = self.head(
            "POST",
            &self.path,
            "Upload-Length: 1\r\nContent-Length: 0\r\n",
        );
        let (reply, _) = connection.ask(&request)?;
        reply.expect("POST without a token", &[401])?;
        self.grants = Some(grants);
        Ok(self)
    }

    /// Asks for the leave that the next creation of `length` bytes takes, ahead of its time.
    pub(crate) fn ahead(&self, connection: &mut Connection, length: u64) -> Result<(), Fault> {
        match &self.grants {
            Some(grants) => grants.ahead(connection, length),
            None => Ok(()),
        }
    }

    /// Says in each request that a proxy forwards it for this client.
    pub(crate) fn forward_for(&mut self, client: &str) {
        self.forwarded = format!("X-Forwarded-For: {client}\r\n");
    }

    /// Where uploads are created.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The head of a creation with these fields and no others.
    pub(crate) fn post_head(&self, fields: &str) -> String {
        self.head("POST", &self.path, fields)
    }

    /// The head of a request.
    pub(crate) fn head(&self, method: &str, path: &str, fields: &str) -> String {
        let tus = if self.kind == Kind::Tus {
            "Tus-Resumable: 1.0.0\r\n"
        } else {
            ""
        };
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{tus}{}{fields}\r\n",
            self.address, self.forwarded
        )
    }

    /// The path of the object `name` on a PUT server.
    pub(crate) fn object(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    /// Creates an upload and sends its first `sent` bytes with the creation. Shows a token if the
    /// target has grants.
    pub(crate) fn create(
        &self,
        connection: &mut Connection,
        phase: u64,
        length: u64,
        sent: u64,
    ) -> Result<Upload, Fault> {
        let token = match &self.grants {
            Some(grants) => Some(grants.token(connection, length)?),
            None => None,
        };
        self.create_with(connection, token.as_deref(), phase, length, sent)
    }

    /// The same with this token, or none.
    pub(crate) fn create_with(
        &self,
        connection: &mut Connection,
        token: Option<&str>,
        phase: u64,
        length: u64,
        sent: u64,
    ) -> Result<Upload, Fault> {
        let mut fields = format!(
            "Upload-Length: {length}\r\nUpload-Metadata: filename bWVhc3VyZWQuYmlu\r\nContent-Length: {sent}\r\n"
        );
        if sent > 0 {
            fields.push_str("Content-Type: application/offset+octet-stream\r\n");
        }
        if let Some(token) = token {
            // Writing to a String can't fail.
            let _ = write!(fields, "Upload-Token: {token}\r\n");
        }
        let head = self.head("POST", &self.path, &fields);
        self.send(connection, head, phase, 0, sent)?;
        let reply = connection.reply(false, |_| Ok(()))?;
        reply.expect("POST", &[201])?;
        if sent > 0 && reply.offset != Some(sent) {
            return Err(format!(
                "POST took offset {}, {sent} bytes were sent",
                show(reply.offset)
            ));
        }
        self.made.fetch_add(1, Ordering::Relaxed);
        let location = reply.location.ok_or("201 without a Location")?;
        Ok(Upload {
            path: path_of(&location).into(),
            phase,
            length,
        })
    }

    /// The head of a PATCH of `length` bytes at `offset`.
    pub(crate) fn append_head(&self, upload: &Upload, offset: u64, length: u64) -> String {
        let fields = format!(
            "Upload-Offset: {offset}\r\nContent-Type: application/offset+octet-stream\r\nContent-Length: {length}\r\n"
        );
        self.head("PATCH", &upload.path, &fields)
    }

    /// The head of a PUT of the whole upload.
    pub(crate) fn put_head(&self, upload: &Upload) -> String {
        let mut fields = String::new();
        // Writing to a String can't fail.
        let _ = write!(fields, "Content-Length: {}\r\n", upload.length);
        self.head("PUT", &upload.path, &fields)
    }

    /// Appends the bytes from `offset` on with one PATCH.
    pub(crate) fn append(
        &self,
        connection: &mut Connection,
        upload: &Upload,
        offset: u64,
        length: u64,
    ) -> Result<(), Fault> {
        let head = self.append_head(upload, offset, length);
        self.send(connection, head, upload.phase, offset, length)?;
        self.appended(connection, offset + length)
    }

    /// Reads the reply to a PATCH that must end at `offset`.
    pub(crate) fn appended(&self, connection: &mut Connection, offset: u64) -> Result<(), Fault> {
        let reply = connection.reply(false, |_| Ok(()))?;
        reply.expect("PATCH", &[204])?;
        if reply.offset != Some(offset) {
            return Err(format!(
                "PATCH left offset {}, expected {offset}",
                show(reply.offset)
            ));
        }
        Ok(())
    }

    /// Stores the whole upload with one PUT.
    pub(crate) fn put(&self, connection: &mut Connection, upload: &Upload) -> Result<(), Fault> {
        let head = self.put_head(upload);
        self.send(connection, head, upload.phase, 0, upload.length)?;
        self.was_put(connection)
    }

    /// Reads the reply to a PUT.
    pub(crate) fn was_put(&self, connection: &mut Connection) -> Result<(), Fault> {
        connection
            .reply(false, |_| Ok(()))?
            .expect("PUT", &[200, 201, 204])
    }

    /// Makes a small upload in the fewest requests that the server and the run allow.
    pub(crate) fn whole(
        &self,
        connection: &mut Connection,
        name: impl FnOnce() -> String,
        phase: u64,
        length: u64,
    ) -> Result<Upload, Fault> {
        if self.kind == Kind::Put {
            let upload = Upload {
                path: self.object(&name()),
                phase,
                length,
            };
            self.put(connection, &upload)?;
            return Ok(upload);
        }
        if self.with_upload {
            return self.create(connection, phase, length, length);
        }
        let upload = self.create(connection, phase, length, 0)?;
        self.append(connection, &upload, 0, length)?;
        Ok(upload)
    }

    /// Asks with HEAD how much of the upload is kept.
    pub(crate) fn kept(&self, connection: &mut Connection, path: &str) -> Result<u64, Fault> {
        let request = self.head("HEAD", path, "");
        connection.begin(request.as_bytes())?;
        let reply = connection.reply(true, |_| Ok(()))?;
        reply.expect("HEAD", &[200, 204])?;
        match self.kind {
            Kind::Tus => reply
                .offset
                .ok_or_else(|| "HEAD without Upload-Offset".into()),
            Kind::Put => reply
                .length
                .ok_or_else(|| "HEAD without Content-Length".into()),
        }
    }

    /// Reads a finished upload back and compares every byte, after asking for its offset.
    pub(crate) fn verify(&self, connection: &mut Connection, upload: &Upload) -> Result<(), Fault> {
        let kept = self.kept(connection, &upload.path)?;
        if kept != upload.length {
            return Err(format!(
                "HEAD says {kept} bytes are kept, {} were sent",
                upload.length
            ));
        }
        let request = self.head("GET", &upload.path, "");
        connection.begin(request.as_bytes())?;
        let (mut offset, mut wrong) = (0, None);
        // The body of an error page is not compared: the status says more.
        let reply = connection.reply(false, |piece| {
            if wrong.is_none() {
                wrong = self.pattern.check(upload.phase, offset, piece).err();
            }
            offset += piece.len() as u64;
            Ok(())
        })?;
        reply.expect("GET", &[200])?;
        if let Some(wrong) = wrong {
            return Err(format!("reading back: {wrong}"));
        }
        if offset != upload.length {
            return Err(format!(
                "reading back gave {offset} of {} bytes",
                upload.length
            ));
        }
        Ok(())
    }

    fn send(
        &self,
        connection: &mut Connection,
        head: String,
        phase: u64,
        mut offset: u64,
        length: u64,
    ) -> Result<(), Fault> {
        let mut bytes = head.into_bytes();
        if length <= ONE_WRITE {
            self.pattern.copy_to(&mut bytes, phase, offset, length);
            return connection.begin(&bytes);
        }
        connection.begin(&bytes)?;
        let end = offset + length;
        while offset < end {
            let slice = self.pattern.slice(phase, offset, end - offset);
            connection.send(slice)?;
            offset += slice.len() as u64;
        }
        Ok(())
    }
}

/// An offset as the report names it.
fn show(offset: Option<u64>) -> String {
    offset.map_or_else(|| "(none)".into(), |offset| offset.to_string())
}

/// The path of a `Location`, which may be a whole URL.
fn path_of(location: &str) -> &str {
    let Some((_, rest)) = location.split_once("://") else {
        return location;
    };
    rest.find('/').map_or("/", |at| &rest[at..])
}

#[cfg(test)]
mod tests {
    use super::path_of;

    #[test]
    fn locations_may_be_paths_or_urls() {
        assert_eq!(path_of("/files/1"), "/files/1");
        assert_eq!(path_of("http://127.0.0.1:1/files/1"), "/files/1");
        assert_eq!(path_of("http://127.0.0.1:1"), "/");
    }
}
