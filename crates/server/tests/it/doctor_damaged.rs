//! `landfall doctor` lists damaged uploads, in a directory and in a bucket, and changes nothing.

use std::fs;

use bytes::Bytes;
use landfall_azure::{AzureClient, AzureSettings, Variables};
use landfall_objects::{Cloud as _, Condition, ObjectHeaders, ObjectRef, Payload};
use landfall_test_services::{Azurite, GcsFake};

use crate::{
    s3_doctor::doctor,
    s3_harness::{Bucket, id_of as s3_id_of, object_of},
    serve_clouds::{BUCKET, Cloud},
    serve_harness::{Landfall, MIB, Request, content, id_of, program, run},
};

#[test]
fn damaged_uploads_in_a_directory_are_listed() {
    let server = Landfall::start(&[]);
    let mut client = server.client();
    let mut create = || {
        let path = client.create(10);
        assert_eq!(client.patch(&path, 0, b"hello").status, 204);
        path
    };
    let (healthy, damaged) = (create(), create());
    let examine = || {
        let mut command = program();
        command
            .args(["doctor", "files", "-upload-dir"])
            .arg(server.dir());
        let (code, said, told) = run(&mut command);
        assert_eq!((code, &*told), (Some(0), ""), "{said}");
        said
    };
    let said = examine();
    assert!(said.contains("2 examined; none is damaged"), "{said}");
    assert!(said.ends_with("no problems found\n"), "{said}");

    let info = server.dir().join(format!("{}.info", id_of(&damaged)));
    fs::write(&info, "{\"ID\":").unwrap();
    let bare = server.dir().join("0123456789abcdef0123456789abcdef");
    fs::write(&bare, "finished, and its description removed").unwrap();
    for file in [&info, &bare] {
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(48 * 3600);
        let file = fs::File::options().append(true).open(file).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    for _ in 0..2 {
        let said = examine();
        let line = said.lines().find(|line| line.contains("damaged upload"));
        let line = line.unwrap_or_else(|| panic!("{said}"));
        assert!(line.starts_with("warn"), "{line}");
        assert!(
            line.contains(id_of(&damaged)) && line.contains("5 bytes"),
            "{line}"
        );
        assert!(!said.contains(id_of(&healthy)), "{said}");
        assert!(said.ends_with("uploads will work; 1 to check\n"), "{said}");
    }
    assert!(bare.exists());
    assert_eq!(client.ask(Request::new("DELETE", &damaged)).status, 204);
    assert!(examine().contains("none is damaged"));
}

#[test]
fn damaged_uploads_in_a_bucket_are_listed() {
    for bucket in Bucket::on_each() {
        let server = bucket.server(&["-sweep-interval=0"]);
        let mut client = server.client();
        let healthy = client.upload(b"healthy");
        let damaged = client.create(20 << 20);
        assert_eq!(client.patch(&damaged, 0, &content(1, 6 << 20)).status, 204);
        server.stop();
        let examine = || doctor(&mut bucket.command(&["doctor", "s3"]));
        let (_, found) = examine();
        assert!(!found.contains_key("damaged upload"), "{found:#?}");
        assert_eq!(found["uploads"][0].0, "ok", "{found:#?}");

        let id = s3_id_of(&damaged);
        let object = object_of(&id);
        bucket.put(&format!("{object}.info"), b"{\"ID\":\"");
        let before = bucket.keys();
        let (code, found) = examine();
        assert_eq!(code, 0, "{found:#?}");
        let [(mark, text)] = &found["damaged upload"][..] else {
            panic!("{found:#?}");
        };
        assert_eq!(mark, "warn");
        assert!(text.contains(object), "{text}");
        assert!(!text.contains(object_of(&s3_id_of(&healthy))), "{text}");
        assert_eq!(bucket.keys(), before);
        assert_eq!(bucket.multiparts().len(), 1);

        let server = bucket.server(&["-sweep-interval=0"]);
        let mut client = server.client();
        assert_eq!(client.head(&damaged).status, 500);
        assert_eq!(client.ask(Request::new("DELETE", &damaged)).status, 204);
        assert_eq!(client.head(&damaged).status, 404);
        assert_eq!(bucket.multiparts(), Vec::<String>::new());
        assert_eq!(bucket.keys().len(), 2, "the healthy one stays");
    }
}

/// Replaces an object by what cannot be read.
fn damage(cloud: &Cloud, key: &str) {
    const DAMAGED: &[u8] = b"{\"ID\":\"";
    let azurite = match cloud {
        Cloud::Google(fake, _) => {
            GcsFake::insert(fake, BUCKET, key, DAMAGED);
            return;
        }
        Cloud::Azure(azurite) => azurite,
    };
    let variables = [
        ("AZURE_STORAGE_ACCOUNT", Azurite::ACCOUNT),
        ("AZURE_STORAGE_KEY", Azurite::KEY),
    ];
    let client = AzureClient::new(AzureSettings {
        endpoint: Some(azurite.endpoint()),
        variables: Variables::from(variables),
        ..AzureSettings::default()
    });
    let (client, object) = (client.unwrap(), ObjectRef::new(BUCKET, key));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let payload = Payload::from(Bytes::from_static(DAMAGED));
    let none = ObjectHeaders::default();
    let put = client.put_object(&object, payload, &none, Condition::None, None);
    runtime.block_on(put).unwrap();
}

#[test]
fn damaged_uploads_in_a_cloud_are_listed() {
    for cloud in Cloud::each() {
        let name = match &cloud {
            Cloud::Google(..) => "gcs",
            Cloud::Azure(_) => "azure",
        };
        let server = cloud.server(&["-sweep-interval=0"]);
        let mut client = server.client();
        let healthy = client.upload(b"healthy");
        let damaged = client.create(20 * MIB);
        assert_eq!(client.patch(&damaged, 0, &content(1, 9 * MIB)).status, 204);
        server.stop();
        let examine = || doctor(&mut cloud.command(&["doctor", name]));
        let (code, found) = examine();
        assert_eq!(code, 0, "{found:#?}");
        assert!(!found.contains_key("damaged upload"), "{found:#?}");
        assert!(found["uploads"][0].1.contains("2 examined"), "{found:#?}");

        damage(&cloud, &format!("in_box/{}.info", id_of(&damaged)));
        let (code, found) = examine();
        assert_eq!(code, 0, "{found:#?}");
        let [(mark, text)] = &found["damaged upload"][..] else {
            panic!("{found:#?}");
        };
        assert_eq!(mark, "warn");
        assert!(text.contains(id_of(&damaged)), "{text}");
        assert!(!text.contains(id_of(&healthy)), "{text}");
    }
}
