//! The permissions that tusd needs suffice, although Amazon denies reading missing objects without the
//! permission to list.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use landfall_test_services::Access;

use crate::{
    s3_harness::{Bucket, id_of, object_of},
    serve_harness::{Client, MIB, Request, assert_same, content, run},
};

/// A service in front of another one, which forbids listing as Amazon does. It takes one request from
/// each connection.
fn without_listing(access: &Access) -> Access {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let service = access.authority().to_owned();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let service = service.clone();
            // A disconnect of the client does not matter here.
            thread::spawn(move || relay(stream, &service).ok());
        }
    });
    Access {
        endpoint: format!("http://{address}"),
        ..access.clone()
    }
}

fn relay(client: TcpStream, service: &str) -> std::io::Result<()> {
    let mut client = Client::new(client);
    let Some(request) = client.try_answer()? else {
        return Ok(());
    };
    let client = &mut client.stream;
    let (line, fields) = request.head.split_once("\r\n").unwrap_or_default();
    let (method, target) = line.split_once(' ').unwrap_or_default();
    let lists = ["list-type=", "?uploads", "&uploads"];
    if method == "GET" && lists.iter().any(|query| target.contains(query)) {
        return deny(client, method);
    }
    let mut upstream = TcpStream::connect(service)?;
    write!(upstream, "{line}\r\nConnection: close\r\n{fields}")?;
    upstream.write_all(&request.body)?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    let is_missing = answer.get(9..12) == Some(b"404");
    let names_upload = target.contains("uploadId");
    if is_missing && !names_upload && matches!(method, "GET" | "HEAD") {
        return deny(client, method);
    }
    client.write_all(&answer)
}

fn deny(client: &mut TcpStream, method: &str) -> std::io::Result<()> {
    let body = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    let head = format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes())?;
    if method != "HEAD" {
        client.write_all(body.as_bytes())?;
    }
    Ok(())
}

#[test]
fn uploads_need_only_the_permissions_of_tusd() {
    let whole = Bucket::on_moto();
    let limited = Bucket::new(without_listing(&whole.access), whole.name.clone());
    for ids in ["-s3-upload-ids=tusd", "-s3-upload-ids=plain"] {
        let server = limited.server(&[ids]);
        server.says("listing the bucket is not permitted");
        let mut client = server.client();
        assert_eq!(client.ask(Request::get("/readyz")).status, 200);
        assert_eq!(client.head("/files/none").status, 404);

        let bytes = content(1, 12 * MIB + 1);
        let path = client.create(bytes.len() as u64);
        assert_eq!(client.patch(&path, 0, &bytes[..6_000_000]).status, 204);
        server.kill();

        let server = limited.server(&[ids]);
        let mut client = server.client();
        assert_eq!(client.offset(&path), 6_000_000);
        client.resumes_to(&path, &bytes);
        assert_same(&whole.object(object_of(&id_of(&path))).unwrap(), &bytes);
        let small = client.upload(b"hello");
        client.holds(&small, b"hello");
        for path in [path, small] {
            assert_eq!(client.ask(Request::new("DELETE", &path)).status, 204);
            assert_eq!(client.head(&path).status, 404);
        }
        assert_eq!(whole.keys().len(), 0);
        server.stop();
    }

    let (code, said, _) = run(&mut limited.command(&["doctor", "s3"]));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("allow s3:ListBucket on it"), "{said}");
}
