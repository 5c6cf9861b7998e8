//! Requests, valid or not: the client sends what the check says.

use url::{Position, Url};

/// The body of a request.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Neither `Content-Length` nor a body.
    None,
    /// A body with its `Content-Length`.
    Bytes(Vec<u8>),
    /// A body in chunks, with trailer fields.
    Chunked(Vec<Vec<u8>>, Vec<(String, String)>),
    /// The head alone, with this `Content-Length`: the check sends the body in pieces.
    Declared(u64),
    /// The head alone, with `Transfer-Encoding: chunked`: the check sends the chunks.
    DeclaredChunked,
}

impl Content {
    /// A body in chunks of this size, without trailers.
    pub(crate) fn in_chunks(data: &[u8], size: usize) -> Self {
        let chunks = data.chunks(size.max(1)).map(<[u8]>::to_vec);
        Self::Chunked(chunks.collect(), Vec::new())
    }
}

/// A request of HTTP/1.1.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) url: Url,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) content: Content,
    is_http_1_0: bool,
}

impl Request {
    pub(crate) fn new(method: &str, url: &Url) -> Self {
        Self {
            method: method.to_owned(),
            url: url.clone(),
            fields: Vec::new(),
            content: Content::None,
            is_http_1_0: false,
        }
    }

    /// Adds a field, also if there is one of this name.
    pub(crate) fn field(mut self, name: &str, value: impl ToString) -> Self {
        self.fields.push((name.to_owned(), value.to_string()));
        self
    }

    /// Removes all fields of this name.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.fields
            .retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    /// Replaces all fields of this name.
    pub(crate) fn set(self, name: &str, value: impl ToString) -> Self {
        self.without(name).field(name, value)
    }

    pub(crate) fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.content = Content::Bytes(bytes.into());
        self
    }

    pub(crate) fn content(mut self, content: Content) -> Self {
        self.content = content;
        self
    }

    /// Sends the request with HTTP/1.0.
    pub(crate) const fn http_1_0(mut self) -> Self {
        self.is_http_1_0 = true;
        self
    }

    pub(super) const fn is_http_1_0(&self) -> bool {
        self.is_http_1_0
    }

    const fn version(&self) -> &'static str {
        match self.is_http_1_0 {
            true => "HTTP/1.0",
            false => "HTTP/1.1",
        }
    }

    /// Returns the first value of a field.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let field = fields.find(|(other, _)| other.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.as_str())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(name))
    }

    fn target(&self) -> &str {
        &self.url[Position::BeforePath..Position::AfterQuery]
    }

    /// Returns the request line and the fields of the check, for reports.
    pub(super) fn transcript(&self, given: &[(String, String)]) -> String {
        let mut text = format!("> {} {} {}\n", self.method, self.target(), self.version());
        for (name, value) in self.fields.iter().chain(self.framing().as_ref()) {
            text.push_str(&format!("> {name}: {value}\n"));
        }
        // They may be secrets.
        for (name, _) in given {
            text.push_str(&format!("> {name}: (from --header)\n"));
        }
        match &self.content {
            Content::Bytes(bytes) if !bytes.is_empty() => {
                text.push_str(&format!("> ({} bytes of content)\n", bytes.len()));
            }
            Content::Chunked(chunks, trailers) => {
                let bytes: usize = chunks.iter().map(Vec::len).sum();
                text.push_str(&format!(
                    "> ({bytes} bytes of content in {} chunks)\n",
                    chunks.len()
                ));
                for (name, value) in trailers {
                    text.push_str(&format!("> {name}: {value} (trailer)\n"));
                }
            }
            _ => {}
        }
        text
    }

    pub(super) fn framing(&self) -> Option<(String, String)> {
        let (name, value) = match &self.content {
            Content::None => return None,
            Content::Bytes(bytes) => ("Content-Length", bytes.len().to_string()),
            Content::Declared(length) => ("Content-Length", length.to_string()),
            Content::Chunked(..) | Content::DeclaredChunked => {
                ("Transfer-Encoding", "chunked".to_owned())
            }
        };
        // A check may set its own framing.
        (!self.has(name)).then(|| (name.to_owned(), value))
    }

    /// Returns the head as it is sent.
    pub(super) fn head(&self, given: &[(String, String)]) -> Vec<u8> {
        let mut head = format!("{} {} {}\r\n", self.method, self.target(), self.version());
        let is_given = |name: &str| {
            given
                .iter()
                .any(|(other, _)| other.eq_ignore_ascii_case(name))
        };
        if !self.has("Host") && !is_given("Host") {
            let host = &self.url[Position::BeforeHost..Position::AfterPort];
            head.push_str(&format!("Host: {host}\r\n"));
        }
        let framing = self.framing();
        for (name, value) in self.fields.iter().chain(given).chain(framing.as_ref()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Returns the body as it is sent.
    pub(super) fn encoded_body(&self) -> Vec<u8> {
        match &self.content {
            Content::Bytes(bytes) => bytes.clone(),
            Content::Chunked(chunks, trailers) => {
                let mut body: Vec<u8> = chunks.iter().flat_map(|data| chunk(data)).collect();
                body.extend_from_slice(b"0\r\n");
                for (name, value) in trailers {
                    body.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
                }
                body.extend_from_slice(b"\r\n");
                body
            }
            _ => Vec::new(),
        }
    }
}

/// Encodes one chunk; none for no bytes, which would end the body.
pub(crate) fn chunk(data: &[u8]) -> Vec<u8> {
    if data.is_empty() {
        return Vec::new();
    }
    let mut encoded = format!("{:x}\r\n", data.len()).into_bytes();
    encoded.extend_from_slice(data);
    encoded.extend_from_slice(b"\r\n");
    encoded
}
