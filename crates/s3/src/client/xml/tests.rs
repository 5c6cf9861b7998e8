use std::time::{Duration, UNIX_EPOCH};

use landfall_objects::MultipartUpload;

use super::*;

#[test]
fn error_fields_are_parsed() {
    let body = br#"<?xml version="1.0" encoding="UTF-8"?>
        <Error><Code>AuthorizationHeaderMalformed</Code>
        <Message>the region 'us-east-1' is wrong; expecting 'eu-west-1' &amp; &lt;no other&gt;</Message>
        <Region>eu-west-1</Region><RequestId>4442587FB7D0A2F9</RequestId><HostId>x</HostId></Error>"#;
    let problem = problem(body).expect("a problem");
    assert_eq!(
        problem.code.as_deref(),
        Some("AuthorizationHeaderMalformed")
    );
    assert_eq!(
        problem.message.as_deref(),
        Some("the region 'us-east-1' is wrong; expecting 'eu-west-1' & <no other>")
    );
    assert_eq!(problem.region.as_deref(), Some("eu-west-1"));
    assert_eq!(problem.request_id.as_deref(), Some("4442587FB7D0A2F9"));
}

#[test]
fn other_documents_are_no_errors() {
    for body in [
        &b""[..],
        b"   \n ",
        b"gateway timed out",
        b"<html><body><Error/></body></html>",
        b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>",
        b"\xff\xfe<Error/>",
        b"<Erro",
    ] {
        assert_eq!(problem(body), None);
    }
    assert_eq!(problem(b"<Error/>"), Some(Problem::default()));
    assert_eq!(
        problem(b"<Error><Code/><Message></Message></Error>"),
        Some(Problem::default())
    );
    let cut = problem(b"<Error><Code>SlowDown</Code><Mess");
    assert_eq!(cut, Some(Problem::default()), "still an error");
}

#[test]
fn white_space_may_come_first() {
    let body = b"\n\n   \r\n<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code></Error>\n";
    assert_eq!(
        problem(body).and_then(|problem| problem.code).as_deref(),
        Some("InternalError")
    );
}

#[test]
fn an_upload_id() {
    let body = br#"<?xml version="1.0" encoding="UTF-8"?>
        <InitiateMultipartUploadResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
        <Bucket>b</Bucket><Key>k</Key><UploadId>VXBsb2FkIElE&#x2e;a_b-c</UploadId>
        </InitiateMultipartUploadResult>"#;
    assert_eq!(upload_id(body).expect("an id"), "VXBsb2FkIElE.a_b-c");
    assert!(upload_id(b"<InitiateMultipartUploadResult/>").is_err());
    assert!(upload_id(b"<R><UploadId></UploadId></R>").is_err());
    assert!(upload_id(b"<R><UploadId>x").is_err());
    assert!(upload_id(b"").is_err());
}

#[test]
fn a_copied_part() {
    let body = br#"<CopyPartResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
        <LastModified>2011-04-11T20:34:56.000Z</LastModified>
        <ETag>&quot;9b2cf535f27731c974343645a3985328&quot;</ETag></CopyPartResult>"#;
    assert_eq!(
        result_etag(body).expect("a tag"),
        "\"9b2cf535f27731c974343645a3985328\""
    );
    assert!(result_etag(b"<CopyPartResult></CopyPartResult>").is_err());
}

#[test]
fn a_page_of_parts() {
    let body = br#"<?xml version="1.0" encoding="UTF-8"?>
        <ListPartsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
          <Bucket>example-bucket</Bucket><Key>example-object</Key><UploadId>XXBsb2F</UploadId>
          <Initiator><ID>arn:aws:iam::1:user/u</ID><DisplayName>u</DisplayName></Initiator>
          <Owner><ID>75a</ID></Owner><StorageClass>STANDARD</StorageClass>
          <PartNumberMarker>1</PartNumberMarker>
          <NextPartNumberMarker>3</NextPartNumberMarker>
          <MaxParts>2</MaxParts><IsTruncated>true</IsTruncated>
          <Part><PartNumber>2</PartNumber><LastModified>2010-11-10T20:48:34.500Z</LastModified>
            <ETag>"7778aef83f66abc1fa1e8477f296d394"</ETag><Size>10485760</Size></Part>
          <Part><PartNumber>3</PartNumber>
            <ETag>&quot;aaaa18db4cc2f85cedef654fccc4a4x8&quot;</ETag><Size>5368709121</Size></Part>
        </ListPartsResult>"#;
    let (page, next) = parts(body, 1).expect("a page");
    assert_eq!(next, Some(3));
    assert_eq!(
        page,
        [
            Part {
                number: 2,
                size: 10_485_760,
                etag: "\"7778aef83f66abc1fa1e8477f296d394\"".to_owned(),
                modified: Some(UNIX_EPOCH + Duration::from_millis(1_289_422_114_500)),
                writer: None,
            },
            Part {
                number: 3,
                size: 5_368_709_121,
                etag: "\"aaaa18db4cc2f85cedef654fccc4a4x8\"".to_owned(),
                modified: None,
                writer: None,
            },
        ]
    );
}

#[test]
fn last_and_malformed_pages_of_parts() {
    let last = b"<ListPartsResult><IsTruncated>false</IsTruncated>\
        <NextPartNumberMarker>7</NextPartNumberMarker></ListPartsResult>";
    for body in [last.as_slice(), b"<ListPartsResult/>"] {
        assert_eq!(parts(body, 0).expect("a page"), (Vec::new(), None));
    }
    // Without a marker the last part is one.
    let part = "<Part><PartNumber>4</PartNumber><Size>1</Size><ETag>e</ETag></Part>";
    let body = format!("<R><IsTruncated>true</IsTruncated><NextPartNumberMarker/>{part}</R>");
    assert_eq!(parts(body.as_bytes(), 0).expect("a page").1, Some(4));
    // Otherwise the caller would request the same page forever.
    assert!(matches!(parts(body.as_bytes(), 4), Err(XmlError::Stuck)));
    assert!(matches!(
        parts(b"<R><IsTruncated>true</IsTruncated></R>", 0),
        Err(XmlError::Stuck)
    ));
    for part in [
        "<Part><Size>1</Size><ETag>e</ETag></Part>",
        "<Part><PartNumber>-1</PartNumber><Size>1</Size><ETag>e</ETag></Part>",
        "<Part><PartNumber>1</PartNumber><Size>x</Size><ETag>e</ETag></Part>",
        "<Part><PartNumber>1</PartNumber><Size>1</Size><ETag/></Part>",
    ] {
        let body = format!("<R>{part}</R>");
        assert!(
            matches!(parts(body.as_bytes(), 0), Err(XmlError::Shape(_))),
            "{part}"
        );
    }
}

#[test]
fn a_page_of_multipart_uploads() {
    let body = br#"<ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
        <Bucket>b</Bucket><KeyMarker></KeyMarker><UploadIdMarker></UploadIdMarker>
        <NextKeyMarker>my%2Bm+x%20%C3%A9</NextKeyMarker><NextUploadIdMarker>Yx+%20</NextUploadIdMarker>
        <EncodingType>url</EncodingType><MaxUploads>2</MaxUploads><IsTruncated>true</IsTruncated>
        <Upload><Key>a%20b+c%2Bd</Key><UploadId>XMg</UploadId>
          <Initiator><ID>arn</ID></Initiator><Owner><ID>75</ID></Owner>
          <Initiated>2010-11-10T20:48:33.000Z</Initiated></Upload>
        </ListMultipartUploadsResult>"#;
    let (page, _) = multiparts(body).expect("a page");
    assert_eq!(
        page.next,
        Some(("my+m x é".to_owned(), "Yx+%20".to_owned())),
        "the id as it is"
    );
    assert_eq!(
        page.uploads,
        [MultipartUpload {
            key: "a b c+d".to_owned(),
            upload_id: "XMg".to_owned(),
            initiated: Some(UNIX_EPOCH + Duration::from_secs(1_289_422_113)),
        }]
    );
}

#[test]
fn keys_are_not_decoded_without_encoding_type() {
    let body = b"<R><Upload><Key>a%20b+c</Key><UploadId>1</UploadId></Upload></R>";
    let (page, _) = multiparts(body).expect("a page");
    assert_eq!(page.uploads[0].key, "a%20b+c");
    assert_eq!(page.next, None);
    let truncated = b"<R><IsTruncated>true</IsTruncated>\
        <Upload><Key>k</Key><UploadId>1</UploadId></Upload></R>";
    assert_eq!(
        multiparts(truncated).expect("a page").0.next,
        Some(("k".to_owned(), "1".to_owned())),
        "without markers the last one is the marker"
    );
    assert!(multiparts(b"<R><IsTruncated>true</IsTruncated></R>").is_err());
    assert!(multiparts(b"<R><Upload><Key>k</Key></Upload></R>").is_err());
}

#[test]
fn a_page_of_objects() {
    let body = br#"<?xml version="1.0" encoding="UTF-8"?>
        <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
        <Name>b</Name><Prefix/><EncodingType>url</EncodingType>
        <NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J+wm36Hy4vbOwM=</NextContinuationToken>
        <KeyCount>1</KeyCount><MaxKeys>1</MaxKeys><IsTruncated>true</IsTruncated>
        <Contents><Key>photos/2006/%26+%23.jpg</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified>
        <ETag>"fba9dede5f27731c9771645a39863328"</ETag><Size>434234</Size>
        <StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>"#;
    let page = objects(body).expect("a page");
    assert_eq!(
        page.next.as_deref(),
        Some("1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J+wm36Hy4vbOwM=")
    );
    assert_eq!(page.objects.len(), 1);
    assert_eq!(page.objects[0].key, "photos/2006/& #.jpg");
    assert_eq!(page.objects[0].size, 434_234);
    let empty = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    assert_eq!(objects(empty).expect("a page"), ObjectsPage::default());
    assert!(matches!(
        objects(b"<R><IsTruncated>true</IsTruncated></R>"),
        Err(XmlError::Stuck)
    ));
}

#[test]
fn cors_rules_round_trip() {
    let rules = vec![
        CorsRule {
            id: Some("a < b & \"c\"".to_owned()),
            allowed_origins: vec!["https://*.example.com".to_owned(), "*".to_owned()],
            allowed_methods: vec!["PUT".to_owned(), "POST".to_owned()],
            allowed_headers: vec!["*".to_owned()],
            expose_headers: vec!["ETag".to_owned(), "Location".to_owned()],
            max_age_seconds: Some(3_000),
        },
        CorsRule {
            allowed_origins: vec!["*".to_owned()],
            allowed_methods: vec!["GET".to_owned()],
            ..CorsRule::default()
        },
    ];
    let body = cors_configuration(&rules);
    assert_eq!(cors(body.as_bytes()).expect("rules"), rules);
    assert_eq!(cors(b"<CORSConfiguration/>").expect("none"), []);
}

#[test]
fn the_list_of_parts_is_escaped() {
    let body = complete(&[(1, "\"abc\"".to_owned()), (2, "<&>".to_owned())]);
    assert_eq!(
        body,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><CompleteMultipartUpload \
         xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Part><PartNumber>1</PartNumber>\
         <ETag>&quot;abc&quot;</ETag></Part><Part><PartNumber>2</PartNumber>\
         <ETag>&lt;&amp;&gt;</ETag></Part></CompleteMultipartUpload>"
    );
}

#[test]
fn errors_of_the_token_service_are_parsed() {
    let body = br#"<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
        <Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error>
        <RequestId>c6104cbe</RequestId></ErrorResponse>"#;
    let problem = problem(body).expect("a problem");
    assert_eq!(problem.code.as_deref(), Some("AccessDenied"));
    assert_eq!(problem.message.as_deref(), Some("no"));
    assert_eq!(problem.request_id.as_deref(), Some("c6104cbe"));
}

#[test]
fn credentials_of_the_token_service() {
    let body = |operation: &str, expiration: &str| {
        format!(
            "<{operation}Response><{operation}Result><Credentials>
             <AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s/+</SecretAccessKey>
             <SessionToken>t==</SessionToken>{expiration}</Credentials><FederatedUser/>
             </{operation}Result></{operation}Response>"
        )
    };
    for operation in ["GetFederationToken", "AssumeRole"] {
        let expiration = "<Expiration>1970-01-01T00:01:00Z</Expiration>";
        let found = temporary_credentials(body(operation, expiration).as_bytes());
        assert_eq!(
            found.expect("credentials"),
            Credentials {
                access_key_id: "ASIA".into(),
                secret_access_key: "s/+".into(),
                session_token: Some("t==".into()),
                expires: Some(UNIX_EPOCH + Duration::from_secs(60)),
            }
        );
        for body in [
            body(operation, ""),
            body(operation, "<Expiration>soon</Expiration>"),
            "<A/>".into(),
        ] {
            assert!(temporary_credentials(body.as_bytes()).is_err(), "{body}");
        }
    }
}
