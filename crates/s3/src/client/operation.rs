//! The operations, for counting calls.

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident => $tusd_label:expr,)*) => {
        /// The operations of S3 and of the token service that the client uses.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        #[non_exhaustive]
        pub enum Operation {
            $($(#[$doc])* $name,)*
        }

        impl Operation {
            /// All operations, in declaration order.
            pub const ALL: [Self; 17] = [$(Self::$name),*];

            /// Returns the name in S3's API reference, such as `UploadPart`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Returns the label in tusd's metric `tusd_s3_request_duration_ms`, if there is one.
            pub const fn tusd_label(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => $tusd_label,)*
                }
            }
        }
    };
}

operations! {
    /// Creates a multipart upload.
    CreateMultipartUpload => Some("create_multipart_upload"),
    /// Uploads a part.
    UploadPart => Some("upload_part"),
    /// Copies an object, or a range of it, into a part.
    UploadPartCopy => Some("upload_part_copy"),
    /// Lists the parts of a multipart upload.
    ListParts => Some("list_parts"),
    /// Completes a multipart upload.
    CompleteMultipartUpload => Some("complete_multipart_upload"),
    /// Aborts a multipart upload.
    AbortMultipartUpload => Some("abort_multipart_upload"),
    /// Lists unfinished multipart uploads.
    ListMultipartUploads => None,
    /// Writes an object.
    PutObject => Some("put_object"),
    /// Reads an object.
    GetObject => Some("get_object"),
    /// Reads an object's headers and metadata.
    HeadObject => Some("head_object"),
    /// Deletes an object.
    DeleteObject => Some("delete_object"),
    /// Lists objects.
    ListObjectsV2 => None,
    /// Checks that a bucket exists.
    HeadBucket => None,
    /// Reads a bucket's CORS rules.
    GetBucketCors => None,
    /// Sets a bucket's CORS rules.
    PutBucketCors => None,
    /// Requests temporary credentials of the client's own user.
    GetFederationToken => None,
    /// Requests temporary credentials of a role.
    AssumeRole => None,
}
