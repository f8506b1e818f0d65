//! What becomes of a value on its way through L2 and back: every codec, types that change, types that do not survive.
#![cfg(feature = "full")]

use std::collections::HashMap;
use std::fmt::Debug;

use async_cache::codec::MAX_DEPTH;
use async_cache::{
    Bincode, Codec, ErrorKind, Event, Json, MemoryBackend, MessagePack, Postcard, TieredCache,
    UnreadableCause,
};
use futures_util::{FutureExt, StreamExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What may be a value here.
trait Value: Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + Clone + PartialEq + Debug + Send + Sync + 'static> Value for T {}

fn node<V: Value>(l2: &MemoryBackend, codec: impl Codec<V>) -> TieredCache<u64, V> {
    TieredCache::builder().namespace("values").l2_with(l2.clone(), codec).build().unwrap()
}

/// Another node reads what one has loaded.
async fn survives<V: Value>(codec: impl Codec<V> + Copy, value: V) {
    let (l2, name) = (MemoryBackend::new(100), codec.name());
    let cache = node(&l2, codec);
    let given = value.clone();
    let loaded = cache.get_or_load(&1, || async { Ok::<V, std::io::Error>(given) }).await.unwrap();
    assert_eq!(*loaded, value, "{name}");
    let read = node(&l2, codec).get(&1).await.unwrap();
    assert_eq!(read.as_deref(), Some(&value), "{name}");
    assert_eq!(cache.stats().codec_failures, 0, "{name}");
}

/// The loader's caller has the value; whoever inserts it is told; nothing is stored that others would miss.
async fn is_refused<V: Value>(codec: impl Codec<V> + Copy, value: V) -> String {
    let (l2, name) = (MemoryBackend::new(100), codec.name());
    let cache = node(&l2, codec);
    let mut events = cache.subscribe();
    let given = value.clone();
    let loaded = cache.get_or_load(&1, || async { Ok::<V, std::io::Error>(given) }).await.unwrap();
    assert_eq!(*loaded, value, "{name}");
    assert_eq!(cache.stats().codec_failures, 1, "{name}");
    let told = std::iter::from_fn(|| events.next().now_or_never().flatten());
    assert!(told.into_iter().any(|event| matches!(event, Event::NotEncoded { .. })), "{name}");
    assert_eq!(node(&l2, codec).get(&1).await.unwrap(), None, "{name}");

    let given = value.clone();
    let loader = move |keys: Vec<u64>| async move {
        Ok::<_, std::io::Error>(keys.into_iter().map(|key| (key, given.clone())).collect::<HashMap<_, _>>())
    };
    let many = cache.get_many_or_load(&[5], loader).await.unwrap();
    assert_eq!(many[0].as_deref(), Some(&value), "{name}");

    let error = cache.insert(&2, value).await.expect_err("an insert says so");
    assert_eq!(error.kind(), ErrorKind::Codec, "{name}");
    assert!(error.to_string().contains("MessagePack") && error.to_string().contains(name), "{error}");
    assert_eq!(cache.stats().codec_failures, 3, "{name}");
    std::error::Error::source(&error).expect("it has a cause").to_string()
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    Made { at: u64 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Outer {
    #[serde(flatten)]
    inner: Inner,
    more: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Inner {
    id: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
struct Sparse {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    first: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    second: Option<u8>,
    rest: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Partly {
    Plain(u64),
    Open(serde_json::Value),
}

/// The first variant reads what the second has written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Asked {
    Number { id: u64 },
    Named { id: u64, name: Option<String> },
}

/// Each way in which serde leaves to the format what a format without names cannot tell.
#[tokio::test]
async fn a_type_that_does_not_survive_its_codec_is_an_error_at_its_first_value() {
    async fn each<V: Value>(value: V) {
        is_refused(Bincode, value.clone()).await;
        is_refused(Postcard, value.clone()).await;
        survives(MessagePack, value.clone()).await;
        survives(Json, value).await;
    }
    each(serde_json::json!({ "a": [1, "x"] })).await;
    each(Tagged::Made { at: 7 }).await;
    each(Untagged::Text("x".into())).await;
    each(Outer { inner: Inner { id: 1 }, more: 2 }).await;
    each(vec![Some(Untagged::Number(1))]).await;
    each(Sparse { second: Some(5), ..Sparse::default() }).await;
    let cause = is_refused(Bincode, Sparse { second: Some(5), ..Sparse::default() }).await;
    assert!(cause.contains("`first`") && cause.contains("skip_serializing_if"), "{cause}");
}

/// Reads no more of a text than three letters.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Cut(String);

impl<'de> Deserialize<'de> for Cut {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        text.truncate(3);
        Ok(Self(text))
    }
}

/// It can be read back, and is another value then.
#[tokio::test]
async fn a_value_that_is_read_back_as_another_is_refused() {
    for cause in
        [is_refused(Bincode, Cut("more".into())).await, is_refused(Postcard, Cut("more".into())).await]
    {
        assert!(cause.contains("different"), "{cause}");
    }
    survives(Bincode, Cut("few".into())).await;
    survives(Postcard, Cut("few".into())).await;
}

/// Values before it were fine.
#[tokio::test]
async fn a_value_that_does_not_survive_is_found_among_those_that_do() {
    async fn after<V: Value>(codec: impl Codec<V> + Copy, good: V, bad: V) {
        let l2 = MemoryBackend::new(1000);
        let cache = node(&l2, codec);
        for key in 0..300 {
            cache.insert(&key, good.clone()).await.unwrap();
        }
        let error = cache.insert(&1000, bad).await.unwrap_err();
        assert_eq!((error.kind(), cache.stats().codec_failures), (ErrorKind::Codec, 1));
    }
    let sparse = Sparse { first: Some(1), second: Some(2), rest: vec![] };
    after(Bincode, sparse.clone(), Sparse { rest: vec![0, 0, 0], ..Sparse::default() }).await;
    after(Postcard, sparse, Sparse::default()).await;
    after(Bincode, Partly::Plain(1), Partly::Open(serde_json::json!(1))).await;
    after(Postcard, vec![], vec![serde_json::json!(1)]).await;
    after(Bincode, None, Some(Untagged::Number(1))).await;
    let (number, named) = (Asked::Number { id: 1 }, Asked::Named { id: 1, name: Some("Ada".into()) });
    after(Json, number.clone(), named.clone()).await;
    after(MessagePack, vec![number.clone()], vec![number, named]).await;
    after(Json, 1.0, f64::INFINITY).await;
    after(Json, Some(Some(1)), Some(None)).await;
    after(MessagePack, Some(Some(1)), Some(None)).await;
}

/// No false alarm: what is read back is equal, though its bytes may come in another order.
#[tokio::test]
async fn what_survives_is_left_alone() {
    async fn each<V: Value>(value: V) {
        survives(Bincode, value.clone()).await;
        survives(Postcard, value.clone()).await;
        survives(MessagePack, value.clone()).await;
        survives(Json, value).await;
    }
    each((0..200).map(|n| (n.to_string(), vec![n; 3])).collect::<HashMap<String, Vec<u64>>>()).await;
    each((0..200).map(|n| n.to_string()).collect::<std::collections::HashSet<String>>()).await;
    each((1u8, -2i64, 0.5f64, 'x', String::from("s"), Some(true), vec![(); 3])).await;
    each(std::net::IpAddr::from([127, 0, 0, 1])).await;
    each(std::num::NonZeroU64::MIN).await;
    each(std::time::Duration::from_millis(1500)).await;
    survives(Bincode, Some(Some(None::<u8>))).await;
    survives(Bincode, f64::INFINITY).await;
    survives(MessagePack, f64::INFINITY).await;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Chain {
    next: Option<Box<Chain>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Wrap(Option<Box<Wrap>>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Branch(Vec<Branch>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Term {
    Zero,
    Of(Box<Term>),
    Both { left: Box<Term> },
}

fn chain(depth: usize) -> Chain {
    (0..depth).fold(Chain { next: None }, |next, _| Chain { next: Some(Box::new(next)) })
}

/// Deeper than the stack of a node that reads it: an error when it is written.
#[tokio::test]
async fn a_value_nested_too_deep_is_refused_when_it_is_written() {
    fn deep<V: Value>(codec: &impl Codec<V>, value: &V) {
        let error = codec.encode(value, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("deep"), "{}: {error}", codec.name());
    }
    fn each<V: Value>(value: V) {
        deep(&Bincode, &value);
        deep(&Postcard, &value);
        deep(&MessagePack, &value);
        deep(&Json, &value);
        // Its own end would nest as deep.
        std::mem::forget(value);
    }
    each(chain(20_000));
    each((0..20_000).fold(Wrap(None), |next, _| Wrap(Some(Box::new(next)))));
    each((0..20_000).fold(Branch(vec![]), |next, _| Branch(vec![next])));
    each((0..20_000).fold(Term::Zero, |next, _| Term::Of(Box::new(next))));
    each((0..20_000).fold(Term::Zero, |next, _| Term::Both { left: Box::new(next) }));

    let cause = is_refused(Bincode, chain(MAX_DEPTH)).await;
    assert!(cause.contains("deep"), "{cause}");
    async fn fits<V: Value>(value: V) {
        survives(Bincode, value.clone()).await;
        survives(Postcard, value.clone()).await;
        survives(MessagePack, value.clone()).await;
        survives(Json, value).await;
    }
    fits(chain(MAX_DEPTH / 2 - 1)).await;
    fits((0..MAX_DEPTH / 2 - 1).fold(Term::Zero, |next, _| Term::Both { left: Box::new(next) })).await;
}

/// Bytes that claim to nest are an error, whoever wrote them.
#[test]
fn bytes_that_nest_too_deep_are_refused_when_they_are_read() {
    assert!(Codec::<Chain>::decode(&Bincode, &[1; 100_000]).is_err());
    assert!(Codec::<Chain>::decode(&Postcard, &[1; 100_000]).is_err());
    let mut msgpack = [0x81, 0xA4, b'n', b'e', b'x', b't'].repeat(20_000);
    msgpack.push(0xC0);
    assert!(Codec::<Chain>::decode(&MessagePack, &msgpack).is_err());
    assert!(Codec::<Chain>::decode(&Json, "{\"next\":".repeat(20_000).as_bytes()).is_err());
}

/// As much as fits, and not the memory that the rest would take.
#[test]
fn a_value_that_is_too_large_is_refused_while_it_is_written() {
    /// Would be 200 GiB.
    struct Endless;
    impl Serialize for Endless {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let chunk = "x".repeat(1 << 20);
            serializer.collect_seq(ExactlyMany(200 << 10).map(|_| &chunk))
        }
    }
    impl<'de> Deserialize<'de> for Endless {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Err(serde::de::Error::custom("never"))
        }
    }
    struct ExactlyMany(usize);
    impl Iterator for ExactlyMany {
        type Item = ();
        fn next(&mut self) -> Option<()> {
            self.0 = self.0.checked_sub(1)?;
            Some(())
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (self.0, Some(self.0))
        }
    }
    fn large(codec: &impl Codec<Endless>) {
        let mut out = Vec::new();
        assert!(codec.encode(&Endless, &mut out).is_err(), "{}", codec.name());
        assert!(out.len() <= 64 << 20, "{}", codec.name());
    }
    large(&Bincode);
    large(&Postcard);
    large(&MessagePack);
    large(&Json);
}

/// Types of one name, as two versions of a program have them.
mod versions {
    pub(super) mod one {
        use serde::{Deserialize, Serialize};
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(crate) struct User {
            pub(crate) name: String,
            pub(crate) mail: String,
        }
    }
    pub(super) mod two {
        use serde::{Deserialize, Serialize};
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(crate) struct User {
            pub(crate) mail: String,
            pub(crate) name: String,
        }
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(crate) struct Invoice {
            pub(crate) number: String,
            pub(crate) text: String,
        }
    }
}
use versions::{one, two};

/// Two versions of a service while it is deployed: each loads for itself what the other has stored, and an
/// invalidation by one reaches both.
#[tokio::test]
async fn fields_that_change_places_are_not_read_by_the_other_version() {
    async fn apart(old: TieredCache<u64, one::User>, new: TieredCache<u64, two::User>) {
        let mut events = new.subscribe();
        old.insert(&1, one::User { name: "Ada".into(), mail: "a@x".into() }).await.unwrap();
        assert_eq!(new.get(&1).await.unwrap(), None);
        let told = events.next().now_or_never().flatten();
        assert!(
            matches!(told, Some(Event::Unreadable { cause: UnreadableCause::OtherFormat, .. })),
            "{told:?}"
        );
        let user = two::User { name: "Ada".into(), mail: "a@x".into() };
        let given = user.clone();
        new.get_or_load(&1, || async { Ok::<_, std::io::Error>(given) }).await.unwrap();
        assert_eq!(new.get(&1).await.unwrap().as_deref(), Some(&user));
        assert_eq!(old.get(&1).await.unwrap(), None);
        old.invalidate(&1).await.unwrap();
        assert_eq!(new.get(&1).await.unwrap(), None, "one namespace, one history");
    }
    let l2 = MemoryBackend::new(100);
    apart(node(&l2, Bincode), node(&l2, Bincode)).await;
    let l2 = MemoryBackend::new(100);
    apart(node(&l2, Postcard), node(&l2, Postcard)).await;
}

#[tokio::test]
async fn fields_that_change_places_are_read_by_their_names_where_there_are_some() {
    let l2 = MemoryBackend::new(100);
    let (old, new) = (node::<one::User>(&l2, MessagePack), node::<two::User>(&l2, MessagePack));
    old.insert(&1, one::User { name: "Ada".into(), mail: "a@x".into() }).await.unwrap();
    let user = two::User { name: "Ada".into(), mail: "a@x".into() };
    assert_eq!(new.get(&1).await.unwrap().as_deref(), Some(&user));
}

/// Layouts happen to agree; the types are not the same.
#[tokio::test]
async fn two_services_that_meet_in_a_namespace_are_told() {
    let l2 = MemoryBackend::new(100);
    let users = node::<two::User>(&l2, Bincode);
    users.insert(&1, two::User { mail: "a@x".into(), name: "Ada".into() }).await.unwrap();
    let invoices = TieredCache::<u64, two::Invoice>::builder().namespace("values").l2(l2.clone()).build();
    let error = match invoices {
        Err(error) => error,
        Ok(cache) => cache.get(&1).await.unwrap_err(),
    };
    assert_eq!(error.kind(), ErrorKind::Config);
    let message = error.to_string();
    assert!(message.contains("User") && message.contains("Invoice"), "{message}");
    assert!(message.contains(".schema(") && message.contains("namespace"), "{message}");
    assert!(TieredCache::<u64, two::Invoice>::builder().namespace("invoices").l2(l2).build().is_ok());
}

/// A type that was renamed goes on where it was, with the name it had.
#[tokio::test]
async fn a_schema_keeps_its_name_when_the_type_changes_its_own() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Account {
        name: String,
        mail: String,
    }
    let l2 = MemoryBackend::new(100);
    node::<one::User>(&l2, Bincode)
        .insert(&1, one::User { name: "A".into(), mail: "a".into() })
        .await
        .unwrap();
    let renamed: TieredCache<u64, Account> =
        TieredCache::builder().namespace("values").schema("User").l2(l2.clone()).build().unwrap();
    let account = Account { name: "A".into(), mail: "a".into() };
    assert_eq!(renamed.get(&1).await.unwrap().as_deref(), Some(&account));
    for bad in ["", "a\nb", &"x".repeat(129)] {
        let built = TieredCache::<u64, u64>::builder().namespace("x").schema(bad).l2(l2.clone()).build();
        assert_eq!(built.unwrap_err().kind(), ErrorKind::Config);
    }
}
