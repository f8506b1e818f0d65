//! The encoding of keys: different keys never share an entry, and the encoding never changes.
#![cfg(all(feature = "macros", feature = "memory"))]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::num::{NonZero, NonZeroU64};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use async_cache::key::Key;
use async_cache::{CacheKey, ErrorKind, MemoryBackend, TieredCache};
use proptest::prelude::*;

#[derive(Debug, Clone, PartialEq, CacheKey)]
struct UserId(u64);

#[derive(Debug, Clone, PartialEq, CacheKey)]
struct Page {
    owner: Owner,
    path: String,
    version: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, CacheKey)]
enum Owner {
    Nobody,
    User(UserId),
    Team { name: String, region: Option<String> },
    Pair(String, String),
}

#[derive(Debug, Clone, PartialEq, CacheKey)]
struct Of<T>(T, Option<(T, T)>);

#[derive(Debug, Clone, PartialEq, CacheKey)]
struct Unit;

fn encoded(key: &(impl CacheKey + ?Sized)) -> Vec<u8> {
    Key::encode(key).expect("a short key").as_bytes().to_vec()
}

fn text(key: impl CacheKey) -> String {
    String::from_utf8(encoded(&key)).expect("text")
}

/// Pinned: a change here makes every deployed cache miss, and two versions of a service blind to each
/// other's invalidations.
#[test]
fn encodings_are_pinned() {
    assert_eq!(text("a:b\\c"), "a:b\\c");
    assert_eq!(text(-7i64), "-7");
    assert_eq!(text(u128::MAX), "340282366920938463463374607431768211455");
    assert_eq!(text((true, 'x', "a:b\\c")), "true:x:a\\:b\\\\c");
    assert_eq!(text((Some("x"), None::<u8>)), "+x:-");
    assert_eq!(text(((1, 2), 3)), "1:2:3");
    assert_eq!(text(UserId(42)), "42");
    assert_eq!(text(Unit), "");
    assert_eq!(text(Owner::Nobody), "Nobody");
    assert_eq!(text(Owner::User(UserId(7))), "User:7");
    let page = Page {
        owner: Owner::Team { name: "r&d:eu".into(), region: Some("x".into()) },
        path: "/a".into(),
        version: None,
    };
    assert_eq!(text(page), "Team:r&d\\:eu:+x:/a:-");
    assert_eq!(text(Of(1, Some((2, 3)))), "1:+2:3");
    assert_eq!(encoded(&vec![0u8, 58, 255]), [0, 58, 255]);
    assert_eq!(encoded(&(vec![0u8, 58, 255], 1)), [0, 92, 58, 255, 58, 49]);
}

#[test]
fn encodings_of_standard_types_are_pinned() {
    assert_eq!(text(1.5f64), "3ff8000000000000");
    assert_eq!(text(-0.0f32), "80000000");
    assert_eq!(text(NonZeroU64::MIN), "1");
    assert_eq!(text(NonZero::new(-5i8).unwrap()), "-5");
    assert_eq!(text(Ipv4Addr::LOCALHOST), "127.0.0.1");
    assert_eq!(text(IpAddr::from(Ipv6Addr::LOCALHOST)), "::1");
    assert_eq!(text((IpAddr::from(Ipv6Addr::LOCALHOST), 1)), "\\:\\:1:1");
    assert_eq!(text(SocketAddr::from(([10, 0, 0, 1], 80))), "10.0.0.1:80");
    assert_eq!(text(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 1, 2)), "\\:\\:1:80:1:2");
    assert_eq!(text(PathBuf::from("/srv//a/./b/")), "/srv/a/b");
    assert_eq!(text((Path::new("a:b/c"), 1)), "a\\:b/c:1");
    assert_eq!(text(Duration::from_millis(5)), "5000000");
    assert_eq!(text(UNIX_EPOCH - Duration::from_nanos(7)), "-7");
    assert_eq!(text(vec![1u64, 22, 3]), "3:1:22:3");
    assert_eq!(text([1u64, 22, 3]), "3:1:22:3");
    assert_eq!(text(Vec::<u64>::new()), "0");
    assert_eq!(text((vec!["a:b", "c"], 1)), "2:a\\:b:c:1");
    assert_eq!(text(Box::<[u16]>::from([1, 2])), "2:1:2");
    assert_eq!(text(*b"bytes"), "bytes");
    assert_eq!(text(((), 1)), ":1");
}

#[cfg(unix)]
#[test]
fn a_path_that_is_not_text_is_an_error_of_its_key() {
    use std::os::unix::ffi::OsStrExt;
    let path = Path::new(std::ffi::OsStr::from_bytes(b"a/\xff"));
    let error = Key::encode(path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Key);
    assert!(error.to_string().contains("UTF-8"), "{error}");
    assert!(Key::encode(&(1, vec![path])).is_err());
}

#[test]
fn a_sequence_that_is_too_long_is_an_error_of_its_key() {
    assert_eq!(Key::encode(&vec![7u8; 1025]).unwrap_err().kind(), ErrorKind::Key);
    assert_eq!(Key::encode(&vec![7u64; 600]).unwrap_err().kind(), ErrorKind::Key);
    assert!(Key::encode(&vec![7u64; 500]).is_ok());
}

/// What borrows a key is encoded as the key is: or it would not be found.
#[test]
fn what_is_borrowed_finds_what_is_owned() {
    assert_eq!(encoded(&("a:b", 1)), encoded(&("a:b".to_owned(), 1)));
    assert_eq!(encoded(&[1u64, 2][..]), encoded(&vec![1u64, 2]));
    assert_eq!(encoded(&[1u64, 2]), encoded(&vec![1u64, 2]));
    assert_eq!(encoded(Path::new("a/b")), encoded(&PathBuf::from("a//b")));
    assert_eq!(encoded(&(Some("a"), &[1u8][..])), encoded(&(Some("a".to_owned()), vec![1u8])));
}

#[tokio::test]
async fn a_tuple_is_found_by_its_parts_borrowed() -> async_cache::Result<()> {
    let cache: TieredCache<(String, u32), u8> = l1();
    cache.insert(&("a", 1), 7).await?;
    assert_eq!(cache.get(&("a", 1)).await?.as_deref(), Some(&7));
    assert_eq!(cache.get(&("a".to_owned(), 1)).await?.as_deref(), Some(&7));
    assert_eq!(cache.get(&(&"a".to_owned(), &1)).await?.as_deref(), Some(&7));
    assert_eq!(cache.get_many([&("a", 1), &("b", 1)]).await?.len(), 2);
    assert!(cache.contains(&("a", 1)).await?);
    let load = || async { Ok::<u8, std::io::Error>(8) };
    assert_eq!(*cache.get_or_load(&("a", 2), load).await?, 8);
    assert_eq!(*cache.refresh(&("a", 1), load).await?, 8);
    cache.invalidate(&("a", 1)).await?;
    cache.invalidate_many([&("a", 2)]).await?;
    assert!(!cache.contains(&("a", 1)).await? && !cache.contains(&("a", 2)).await?);

    let cache: TieredCache<(u64, String), u8> = l1();
    let name = String::from("x");
    cache.insert(&(1, name.as_str()), 7).await?;
    assert!(cache.contains(&(1, "x")).await? && cache.contains(&(1, name.clone())).await?);

    let cache: TieredCache<(u64, Option<String>, Vec<u64>, PathBuf), u8> = l1();
    cache.insert(&(1, Some("x"), &[1, 2][..], Path::new("a/b")), 7).await?;
    let owned = (1, Some("x".to_owned()), vec![1, 2], PathBuf::from("a/b"));
    assert!(cache.contains(&owned).await?);
    let some = (1, owned.1.as_deref(), vec![1, 2], PathBuf::from("a/b"));
    assert!(cache.contains(&some).await?);

    // What was found before is found as before.
    let cache: TieredCache<(u64, u64), u8> = l1();
    cache.insert(&(1, 2), 7).await?;
    assert!(cache.contains(&(1, 2)).await?);
    let cache: TieredCache<u64, u8> = l1();
    cache.insert(&"1".parse().unwrap(), 7).await?;
    assert!(cache.contains(&1).await?);
    let cache: TieredCache<Vec<u64>, u8> = l1();
    cache.insert(&[1, 2][..], 7).await?;
    assert!(cache.contains(&vec![1, 2]).await?);
    assert!(found_by(&cache, &vec![1, 2]).await?);
    Ok(())
}

/// Generic code asks for what the standard library's maps ask for.
async fn found_by<K, Q>(cache: &TieredCache<K, u8>, key: &Q) -> async_cache::Result<bool>
where
    K: CacheKey + std::borrow::Borrow<Q>,
    Q: CacheKey + ?Sized,
{
    cache.contains(key).await
}

fn l1<K: CacheKey>() -> TieredCache<K, u8> {
    TieredCache::builder().namespace("keys").l1(MemoryBackend::new(100)).build().expect("a valid cache")
}

/// A struct of one field is looked up without a copy, where the field is.
#[test]
fn a_newtype_lends_its_bytes() {
    #[derive(CacheKey)]
    struct Name(String);
    assert_eq!(Name("ada".into()).as_bytes(), Some(&b"ada"[..]));
    assert_eq!(encoded(&Name("ada".into())), encoded("ada"));
}

/// Text full of what the encoding gives a meaning to.
fn word() -> impl Strategy<Value = String> {
    prop_oneof!["[:\\\\+\\-a]{0,4}", "Nobody|User|Team|Pair", any::<String>()].prop_map(|word| {
        let end = word.char_indices().nth(20).map_or(word.len(), |(at, _)| at);
        word[..end].to_owned()
    })
}

fn owner() -> impl Strategy<Value = Owner> {
    prop_oneof![
        Just(Owner::Nobody),
        any::<u64>().prop_map(|id| Owner::User(UserId(id))),
        (word(), proptest::option::of(word())).prop_map(|(name, region)| Owner::Team { name, region }),
        (word(), word()).prop_map(|(a, b)| Owner::Pair(a, b)),
    ]
}

fn page() -> impl Strategy<Value = Page> {
    (owner(), word(), proptest::option::of(0u8..3)).prop_map(|(owner, path, version)| Page {
        owner,
        path,
        version,
    })
}

/// Equal encodings mean equal keys.
fn injective<K: CacheKey + PartialEq + std::fmt::Debug>(a: &K, b: &K) -> Result<(), TestCaseError> {
    prop_assert_eq!(encoded(a) == encoded(b), a == b, "{:?} and {:?} as {:?}", a, b, text_of(a));
    Ok(())
}

fn text_of(key: &impl CacheKey) -> String {
    String::from_utf8_lossy(&encoded(key)).into_owned()
}

/// Pairs that differ by where a separator stands: what random pairs would hardly hit.
fn cut(text: &str, at: usize) -> (String, String) {
    let at = text.char_indices().nth(at).map_or(text.len(), |(at, _)| at);
    (text[..at].to_owned(), text[at..].to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn structs_and_enums(a in page(), b in page()) {
        injective(&a, &b)?;
        injective(&a.owner, &b.owner)?;
        injective(&Of(a.clone(), Some((b.clone(), a.clone()))), &Of(b.clone(), None))?;
        injective(&(a.owner.clone(), a.path.clone()), &(b.owner.clone(), b.path.clone()))?;
    }

    #[test]
    fn one_text_cut_in_two_places(text in "[:\\\\+\\-a]{0,8}", at in 0usize..9, other in 0usize..9) {
        injective(&cut(&text, at), &cut(&text, other))?;
        let ((a, b), (c, d)) = (cut(&text, at), cut(&text, other));
        injective(&((a.clone(), b.clone()), 1u8), &((c.clone(), d.clone()), 1u8))?;
        injective(&(Some(a.clone()), b.clone()), &(Some(c.clone()), d.clone()))?;
        injective(&(Some(a.clone()), b.clone()), &(None, d.clone()))?;
        injective(&Owner::Pair(a.clone(), b.clone()), &Owner::Team { name: c, region: Some(d) })?;
        injective(&(a, Owner::Nobody), &(b, Owner::Nobody))?;
    }

    #[test]
    fn sequences(
        a in proptest::collection::vec(word(), 0..4), b in proptest::collection::vec(word(), 0..4),
        x: Vec<Option<Vec<u8>>>, y: Vec<Option<Vec<u8>>>, at in 0usize..4,
    ) {
        let short = |all: &[Option<Vec<u8>>]| -> Vec<Option<Vec<u8>>> {
            let cut = |bytes: &Vec<u8>| bytes.iter().take(9).map(|byte| byte % 96).collect();
            all.iter().take(5).map(|one| one.as_ref().map(cut)).collect()
        };
        let (x, y) = (short(&x), short(&y));
        injective(&a, &b)?;
        injective(&x, &y)?;
        injective(&(a.clone(), b.clone()), &(b.clone(), a.clone()))?;
        injective(&(x.clone(), a.clone()), &(y.clone(), b.clone()))?;
        injective(&vec![a.clone(), b.clone()], &vec![b.clone(), a.clone()])?;
        // The same elements, cut in another place.
        let all: Vec<String> = a.iter().chain(&b).cloned().collect();
        let (c, d) = all.split_at(at.min(all.len()));
        injective(&(a.clone(), b.clone()), &(c.to_vec(), d.to_vec()))?;
        injective(&vec![a, b], &vec![c.to_vec(), d.to_vec()])?;
    }

    #[test]
    fn numbers_that_are_no_integers(a: f64, b: f64, c: u32, d: u32, x: (u32, u32), y: (u32, u32)) {
        let bits = |one: f64, other: f64| one.to_bits() == other.to_bits();
        prop_assert_eq!(encoded(&a) == encoded(&b), bits(a, b));
        prop_assert_eq!(encoded(&(a, b)) == encoded(&(b, a)), bits(a, b));
        prop_assert_eq!(encoded(&f32::from_bits(c)) == encoded(&f32::from_bits(d)), c == d);
        injective(&NonZero::new(c), &NonZero::new(d))?;
        let (from, to) = (Duration::new(x.0.into(), x.1 % 3), Duration::new(y.0.into(), y.1 % 3));
        injective(&from, &to)?;
        injective(&(UNIX_EPOCH + from), &(UNIX_EPOCH - to))?;
        injective(&(UNIX_EPOCH - from, c), &(UNIX_EPOCH - to, d))?;
    }

    #[test]
    fn addresses(a: IpAddr, b: IpAddr, ports: (u8, u8), flows: (u8, u8), scopes: (u8, u8)) {
        injective(&a, &b)?;
        injective(&(a, b), &(b, a))?;
        let mapped = |ip: IpAddr| match ip { IpAddr::V4(ip) => IpAddr::V6(ip.to_ipv6_mapped()), v6 => v6 };
        injective(&a, &mapped(a))?;
        injective(&SocketAddr::new(a, ports.0.into()), &SocketAddr::new(a, ports.1.into()))?;
        injective(&(SocketAddr::new(a, 1), ports.0), &(SocketAddr::new(b, 1), ports.1))?;
        let v6 = |flow: u8, scope: u8| {
            SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, (flow % 3).into(), (scope % 3).into()))
        };
        injective(&v6(flows.0, scopes.0), &v6(flows.1, scopes.1))?;
        injective(&(v6(flows.0, 0), scopes.0), &(v6(flows.1, 0), scopes.1))?;
    }

    #[test]
    fn paths(a in "[/.:\\\\ab]{0,6}", b in "[/.:\\\\ab]{0,6}", at in 0usize..7, other in 0usize..7) {
        injective(&PathBuf::from(&a), &PathBuf::from(&b))?;
        let ((head, tail), (front, rest)) = (cut(&a, at), cut(&a, other));
        injective(&(PathBuf::from(head), tail), &(PathBuf::from(front), rest))?;
    }

    #[test]
    fn nested_tuples_and_options(
        a: (Option<i8>, (bool, Option<Option<u8>>), char),
        b: (Option<i8>, (bool, Option<Option<u8>>), char),
        x in (word(), proptest::option::of((word(), word())), any::<Vec<u8>>()),
        y in (word(), proptest::option::of((word(), word())), any::<Vec<u8>>()),
    ) {
        injective(&a, &b)?;
        injective(&x, &y)?;
    }
}
