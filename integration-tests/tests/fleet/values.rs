//! The values of different programs in one namespace, on both tiers.

use async_cache::{BoxError, Codec, ErrorKind, MemoryBackend, TieredCache};
use integration_tests::fleet::Fleet;
use integration_tests::on_both_tiers;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

/// A type with the same layout as a user.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Invoice {
    cents: u64,
    text: String,
}

mod next {
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub(super) struct User {
        pub(super) number: u64,
        pub(super) name: String,
    }
}

async fn node<V>(fleet: &Fleet) -> async_cache::Result<TieredCache<u64, V>>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let builder = TieredCache::builder().namespace("accounts").l1(MemoryBackend::new(100));
    builder.l2(fleet.backend().await).build()
}

fn ada() -> User {
    User { id: 42, name: "Ada".into() }
}

async fn a_service_with_another_type_is_refused(fleet: Fleet) {
    let users = node::<User>(&fleet).await.unwrap();
    users.insert(&42, ada()).await.unwrap();
    let error = match node::<Invoice>(&fleet).await {
        Err(error) => error,
        Ok(invoices) => {
            let ready = invoices.ready().await.unwrap_err();
            assert_eq!(ready.kind(), ErrorKind::Config);
            invoices.insert(&42, Invoice { cents: 1, text: String::new() }).await.unwrap_err();
            invoices.invalidate(&42).await.unwrap_err();
            // It gets its own value from its own database.
            let load = || async { Ok::<_, std::io::Error>(Invoice { cents: 7, text: "x".into() }) };
            assert_eq!(invoices.get_or_load(&42, load).await.unwrap().cents, 7);
            invoices.get(&43).await.unwrap_err()
        }
    };
    assert_eq!(error.kind(), ErrorKind::Config);
    let text = error.to_string();
    assert!(text.contains("User") && text.contains("Invoice") && text.contains(".schema("), "{text}");
    assert_eq!(users.get(&42).await.unwrap().as_deref(), Some(&ada()), "nothing happened to it");
}

/// Both versions run during the whole deployment.
async fn two_versions_share_invalidations_and_no_values(fleet: Fleet) {
    let (old, new) = (node::<User>(&fleet).await.unwrap(), node::<next::User>(&fleet).await.unwrap());
    old.ready().await.unwrap();
    new.ready().await.unwrap();
    old.insert(&42, ada()).await.unwrap();
    assert_eq!(new.get(&42).await.unwrap(), None);
    assert!(new.stats().unreadable > 0);
    let load = || async { Ok::<_, std::io::Error>(next::User { number: 1, name: "Ada".into() }) };
    assert_eq!(new.get_or_load(&42, load).await.unwrap().number, 1);
    let stamp = old.invalidate(&42).await.unwrap();
    assert_eq!(new.get(&42).at_least(&stamp).await.unwrap(), None);
}

/// A codec that does not change its bytes.
struct Plain;

impl Codec<u64> for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn encode(&self, value: &u64, out: &mut Vec<u8>) -> Result<(), BoxError> {
        out.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    fn decode(&self, bytes: &[u8]) -> Result<u64, BoxError> {
        Ok(u64::from_be_bytes(bytes.try_into()?))
    }
}

async fn versions_of_a_codec_without_shapes_are_told_apart_by_their_number(fleet: Fleet) {
    let node = async |version| {
        let builder = TieredCache::<u64, u64>::builder().namespace("plain").schema_version(version);
        builder.l2_with(fleet.backend().await, Plain).build().unwrap()
    };
    let (old, same, new) = (node(1).await, node(1).await, node(2).await);
    old.insert(&1, 5).await.unwrap();
    assert_eq!(same.get(&1).await.unwrap().as_deref(), Some(&5));
    assert_eq!(new.get(&1).await.unwrap(), None);
}

on_both_tiers!(
    a_service_with_another_type_is_refused,
    two_versions_share_invalidations_and_no_values,
    versions_of_a_codec_without_shapes_are_told_apart_by_their_number,
);
