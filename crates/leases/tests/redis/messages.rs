//! Messages between nodes, also with one of an earlier release, which listens to the common channel alone.

use std::time::Duration;

use landfall::{lease::Locker, upload::UploadId};

use crate::server::{LONG, Server, quick};

#[tokio::test(flavor = "multi_thread")]
async fn only_a_node_of_an_earlier_release_gets_a_message_on_the_common_channel() {
    let settings = quick();
    let server = Server::ready(&settings).await;
    let (one, two) = (server.locker(&settings), server.locker(&settings));
    let client = redis::Client::open(server.address()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let mut older = connection.as_pubsub();
    older.subscribe("landfall:leases").unwrap();
    older
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();

    let id = UploadId::random();
    let lease = one.acquire(&id, LONG).await.unwrap();
    let yielded = async {
        lease.signal().wait().await;
        drop(lease);
    };
    let started = tokio::time::Instant::now();
    let (_, taken) = tokio::join!(yielded, two.acquire(&id, LONG));
    // By messages, and not by repeated requests.
    assert!(started.elapsed() < settings.poll_interval);
    drop(taken.unwrap());
    assert!(older.get_message().is_err());

    let lease = one.acquire(&id, LONG).await.unwrap();
    let keys: Vec<String> = server.run(&["KEYS", "landfall:lease:*"]);
    let key = keys.iter().find(|key| key.contains(id.as_str())).unwrap();
    server.run::<()>(&["SET", key, "0a:1", "PX", "500"]);
    drop(two.acquire(&id, LONG).await.unwrap());
    let message: String = older.get_message().unwrap().get_payload().unwrap();
    assert!(message.starts_with("yield 0a:1 "), "{message}");
    drop(lease);
}
