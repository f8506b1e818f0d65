//! The encoding of keys: different keys never share an entry, and the encoding never changes.
#![cfg(feature = "macros")]

use async_cache::CacheKey;
use async_cache::key::Key;
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
