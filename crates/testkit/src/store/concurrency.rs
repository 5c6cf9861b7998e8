use landfall::lease::Fence;

use super::{
    Subject,
    support::{create, expect, finish_if_able, resume, write},
};
use crate::test_data;

pub(super) async fn a_hundred_uploads_at_once(store: &Subject) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100_u64 {
        let store = store.clone();
        tasks.spawn(async move {
            let bytes = test_data::bytes(n, 10_000 + n as usize * 777);
            let upload = create(&store, bytes.len() as u64).await;
            for (turn, piece) in test_data::chunks(&bytes, 40_000, n).iter().enumerate() {
                let fence = Fence(turn as u64 + 1);
                let mut append = resume(&store, &upload, fence).await;
                write(&mut *append, piece).await;
                append.commit().await.expect("commit");
                tokio::task::yield_now().await;
            }
            finish_if_able(&store, &upload, Fence(1000)).await;
            expect(&store, &upload, &bytes).await;
            (upload, bytes)
        });
    }
    for (upload, bytes) in tasks.join_all().await {
        expect(store, &upload, &bytes).await;
    }
}
