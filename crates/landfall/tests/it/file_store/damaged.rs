//! Damaged uploads can be listed and removed.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use landfall::{
    Composer, Config, Lifetimes, SweepReason,
    store::file::{FileOptions, FileStore},
};

use crate::harness::Site;

const LIFE: Duration = Duration::from_secs(3600);

async fn site() -> (Site, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let store = FileStore::open(dir.path(), FileOptions::default()).unwrap();
    let mut config = Config::new(Composer::join(store));
    config.lifetimes = Lifetimes {
        unfinished: Some(LIFE),
        finished: None,
    };
    (Site::start(config, Some(dir)).await, path)
}

/// Creates one upload for each kind of damage; returns their paths.
async fn damage(site: &Site, dir: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    for kind in 0..4 {
        let path = site.create(5).await;
        site.patch(&path, 0, "hel").await.expect(204);
        let data = dir.join(path.strip_prefix("/files/").unwrap());
        let info = data.with_extension("info");
        match kind {
            0 => fs::write(info, "nonsense").unwrap(),
            1 => fs::write(info, "").unwrap(),
            2 => fs::write(info, vec![b' '; 5 << 20]).unwrap(),
            _ => fs::write(data, "more than five").unwrap(),
        }
        paths.push(path);
    }
    paths
}

#[tokio::test]
async fn damaged_upload_can_be_removed() {
    let (site, dir) = site().await;
    for path in damage(&site, &dir).await {
        site.head(&path).await.expect(500);
        // The log has the reason, the client has not.
        let reply = site.request("GET", &path).send().await;
        let text = reply.refused(500, "ERR_UPLOAD_DAMAGED").body;
        assert!(!text.contains("nonsense") && !text.contains('/'), "{text}");
        site.delete(&path).await.expect(204);
        site.head(&path).await.expect(404);
        site.delete(&path).await.expect(404);
    }
    for path in damage(&site, &dir).await {
        let id = crate::harness::id(&path);
        assert!(site.handler.remove(&id).await.unwrap());
        assert!(!site.handler.remove(&id).await.unwrap());
    }
    assert_eq!(site.files(), Vec::<String>::new());
}

#[tokio::test]
async fn damaged_upload_is_reported_and_never_removed() {
    let (site, dir) = site().await;
    let healthy = site.create(5).await;
    let paths = damage(&site, &dir).await;
    let long_ago = SystemTime::now() - 2 * LIFE;
    for path in &paths {
        let data = dir.join(path.strip_prefix("/files/").unwrap());
        for file in [data.with_extension("info"), data] {
            let file = fs::File::options().write(true).open(file).unwrap();
            file.set_modified(long_ago).unwrap();
        }
    }
    let before = site.files();
    let mut listed = 0;
    let sweeper = site.handler.sweeper();
    let summary = sweeper.run(|entry| {
        assert!(matches!(entry.why, SweepReason::Reported(_)), "{entry:?}");
        listed += 1;
    });
    let summary = summary.await.unwrap();
    let counts = (summary.damaged, summary.removed, summary.failed, listed);
    assert_eq!(counts, (4, 0, 0, 4));
    assert_eq!(site.handler.stats().damaged_uploads, 4);
    let mut after = site.files();
    after.retain(|name| name != ".landfall/clock");
    assert_eq!(after, before);
    site.head(&healthy).await.expect(200);
}
