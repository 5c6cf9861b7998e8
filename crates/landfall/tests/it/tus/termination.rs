//! Termination.

use super::with_defaults;

#[tokio::test]
async fn delete_stops_a_running_append() {
    with_defaults(async |site| {
        let (path, mut open) = site.half_sent().await;
        site.delete(&path).await.expect(204);
        let reply = open.reply().await;
        assert!((400..500).contains(&reply.status), "{reply:?}");
        site.head(&path).await.expect(404);
        assert_eq!(site.uploads().await, 0);
    })
    .await;
}
