//! A handle that invalidates by encoded keys.

use async_cache::key::Key;
use async_cache::{ErrorKind, Invalidator, MemoryBackend, TieredCache};

/// Two nodes of one namespace.
fn nodes() -> [TieredCache<(u64, String), u64>; 2] {
    let l2 = MemoryBackend::new(1_000);
    [(); 2].map(|()| {
        let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(100));
        builder.l2(l2.clone()).build().expect("a valid cache")
    })
}

fn row(id: u64) -> (u64, String) {
    (id, "a:b".to_owned())
}

#[tokio::test]
async fn encoded_keys_and_tags_are_invalidated_on_every_node() {
    let [here, there] = nodes();
    // Handles of caches with different types fit into one list.
    let other: TieredCache<String, String> =
        TieredCache::builder().l1(MemoryBackend::new(1)).build().unwrap();
    let all: Vec<Invalidator> = vec![here.invalidator(), other.invalidator()];
    assert_eq!((all[0].namespace(), all[0].has_l2(), all[1].has_l2()), ("rows", true, false));

    for id in 0..3 {
        here.insert(&row(id), id).tag(format!("tag:{id}")).await.unwrap();
    }
    let key = Key::from_encoded(Key::encode(&row(0)).unwrap().as_bytes());
    let stamp = all[0].invalidate_many(vec![key]).await.unwrap();
    assert!(there.get(&row(0)).at_least(&stamp).await.unwrap().is_none());
    let stamp = all[0].invalidate_tags(vec!["tag:1".to_owned()]).await.unwrap();
    assert!(there.get(&row(1)).at_least(&stamp).await.unwrap().is_none());
    assert_eq!(there.get(&row(2)).at_least(&stamp).await.unwrap().as_deref(), Some(&2), "the others stay");
    let stamp = all[0].invalidate_all().await.unwrap();
    assert!(there.get(&row(2)).at_least(&stamp).await.unwrap().is_none());
}

#[tokio::test]
async fn the_handle_keeps_the_cache_open_until_it_is_shut_down() {
    let [dropped, shut_down] = nodes();
    let (alone, closed) = (dropped.invalidator(), shut_down.invalidator());
    drop(dropped);
    assert!(alone.invalidate_all().await.is_ok());
    shut_down.shutdown().await;
    assert_eq!(closed.invalidate_all().await.unwrap_err().kind(), ErrorKind::Shutdown);
}
