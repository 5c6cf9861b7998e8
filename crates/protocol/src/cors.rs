//! CORS headers, as tusd sends them and tus clients in browsers need them.

/// `Access-Control-Allow-Methods` on preflight responses.
pub const ALLOW_METHODS: &str = "POST, PUT, HEAD, PATCH, OPTIONS, GET, DELETE";

/// `Access-Control-Allow-Headers` on preflight responses.
pub const ALLOW_HEADERS: &str = "Authorization, Origin, X-Requested-With, X-Request-ID, \
    X-HTTP-Method-Override, Content-Type, Upload-Length, Upload-Offset, Tus-Resumable, \
    Upload-Metadata, Upload-Defer-Length, Upload-Concat, Upload-Incomplete, Upload-Complete, \
    Upload-Draft-Interop-Version, Upload-Checksum, Upload-Token, Content-Disposition, \
    Content-Digest, Repr-Digest, Want-Repr-Digest";

/// `Access-Control-Expose-Headers` on all other responses.
pub const EXPOSE_HEADERS: &str = "Upload-Offset, Location, Upload-Length, Tus-Version, \
    Tus-Resumable, Tus-Max-Size, Tus-Extension, Upload-Metadata, Upload-Defer-Length, \
    Upload-Concat, Upload-Incomplete, Upload-Complete, Upload-Draft-Interop-Version, Upload-Limit, \
    Repr-Digest, Tus-Checksum-Algorithm, Upload-Expires, X-Request-ID, Retry-After";

/// `Access-Control-Max-Age`, in seconds.
pub const MAX_AGE: &str = "86400";
