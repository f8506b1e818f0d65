//! The keys of decorated functions: two calls share an entry only if they are calls of one function with equal arguments.
#![cfg(all(feature = "macros", feature = "memory"))]

use std::marker::PhantomData;
use std::sync::LazyLock;

use async_cache::{CacheKey, MemoryBackend, TieredCache, cached};

type Cache = TieredCache<String, u64>;

fn cache(namespace: &str) -> Cache {
    TieredCache::builder().namespace(namespace).l1(MemoryBackend::new(1000)).build().expect("a valid cache")
}

static LOCAL: LazyLock<Cache> = LazyLock::new(|| cache("local"));
/// Of one test alone, which counts its loads.
static BLOCKS: LazyLock<Cache> = LazyLock::new(|| cache("blocks"));

async fn one(id: u64) -> u64 {
    #[cached(cache = BLOCKS)]
    async fn find(id: u64) -> u64 {
        id + 10
    }
    find(id).await
}

async fn two(id: u64) -> u64 {
    #[cached(cache = BLOCKS)]
    async fn find(id: u64) -> u64 {
        id + 20
    }
    find_refresh(id).await;
    find_invalidate(id).await.unwrap();
    find(id).await
}

#[cached(cache = BLOCKS)]
async fn find(id: u64) -> u64 {
    id + 30
}

macro_rules! block_of {
    ($base:expr, $id:expr) => {{
        #[cached(cache = BLOCKS)]
        async fn find(id: u64) -> u64 {
            id + $base
        }
        find($id).await
    }};
}

macro_rules! two_blocks {
    ($id:expr) => {
        (block_of!(40, $id), block_of!(50, $id))
    };
}

async fn blocks(id: u64) -> [u64; 4] {
    let first = {
        const BASE: u64 = 60;
        #[cached(cache = BLOCKS)]
        async fn find(id: u64) -> u64 {
            id + BASE
        }
        find(id).await
    };
    let second = {
        const BASE: u64 = 70;
        #[cached(cache = BLOCKS)]
        async fn find(id: u64) -> u64 {
            id + BASE
        }
        find(id).await
    };
    let closure = || async {
        #[cached(cache = BLOCKS)]
        async fn find(id: u64) -> u64 {
            id + 80
        }
        find(1).await
    };
    let other = || async {
        #[cached(cache = BLOCKS)]
        async fn find(id: u64) -> u64 {
            id + 90
        }
        find(1).await
    };
    [first, second, closure().await, other().await]
}

#[tokio::test]
async fn local_functions_of_one_name_are_apart() {
    for _ in 0..2 {
        assert_eq!((one(1).await, two(1).await, find(1).await), (11, 21, 31));
        assert_eq!(two_blocks!(1), (41, 51));
        assert_eq!(blocks(1).await, [61, 71, 81, 91]);
    }
    let loads = BLOCKS.stats().loads;
    one(1).await;
    find(1).await;
    assert_eq!(BLOCKS.stats().loads, loads, "each is cached");
    find_invalidate(1).await.unwrap();
    assert_eq!((one(1).await, find(1).await), (11, 31));
    assert_eq!(BLOCKS.stats().loads, loads + 1, "one is invalidated");
}

mod left {
    #[super::cached(cache = super::LOCAL)]
    pub(super) async fn same(id: u64) -> u64 {
        id + 100
    }
}

mod right {
    #[super::cached(cache = super::LOCAL)]
    pub(super) async fn same(id: u64) -> u64 {
        id + 200
    }
}

#[derive(Clone)]
struct A;
#[derive(Clone)]
struct B;
struct Of<T>(PhantomData<T>);
impl<T> Clone for Of<T> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl A {
    #[cached(cache = LOCAL, skip(self))]
    async fn same(&self, id: u64) -> u64 {
        id + 300
    }

    #[cached(cache = LOCAL)]
    async fn associated(id: u64) -> u64 {
        id + 310
    }
}

impl B {
    #[cached(cache = LOCAL, skip(self))]
    async fn same(&self, id: u64) -> u64 {
        id + 400
    }

    #[cached(cache = LOCAL)]
    async fn associated(id: u64) -> u64 {
        id + 410
    }
}

trait Named: Clone + Send + Sync + 'static {
    const BASE: u64;
}

impl Named for A {
    const BASE: u64 = 500;
}

impl Named for B {
    const BASE: u64 = 600;
}

impl<T: Named> Of<T> {
    #[cached(cache = LOCAL, skip(self))]
    async fn same(&self, id: u64) -> u64 {
        id + T::BASE + 1000
    }

    #[cached(cache = LOCAL)]
    async fn of_type(id: u64) -> u64 {
        id + T::BASE + 2000
    }
}

#[cached(cache = LOCAL)]
async fn generic<T: Named, const N: u64>(id: u64) -> u64 {
    id + T::BASE + N + 3000
}

#[tokio::test]
async fn functions_of_one_name_in_other_places_are_apart() {
    for _ in 0..2 {
        assert_eq!((left::same(1).await, right::same(1).await), (101, 201));
        assert_eq!((A.same(1).await, B.same(1).await), (301, 401));
        assert_eq!((A::associated(1).await, B::associated(1).await), (311, 411));
        assert_eq!((Of::<A>(PhantomData).same(1).await, Of::<B>(PhantomData).same(1).await), (1501, 1601));
        assert_eq!((Of::<A>::of_type(1).await, Of::<B>::of_type(1).await), (2501, 2601));
        assert_eq!((generic::<A, 7>(1).await, generic::<B, 7>(1).await), (3508, 3608));
        assert_eq!(generic::<A, 8>(1).await, 3509);
    }
    for base in [700, 800] {
        if base == 700 {
            #[derive(Clone)]
            struct C;
            impl C {
                #[cached(cache = LOCAL, skip(self))]
                async fn same(&self, id: u64) -> u64 {
                    id + 700
                }
            }
            assert_eq!(C.same(1).await, 701);
        } else {
            #[derive(Clone)]
            struct C;
            impl C {
                #[cached(cache = LOCAL, skip(self))]
                async fn same(&self, id: u64) -> u64 {
                    id + 800
                }
            }
            assert_eq!(C.same(1).await, 801);
        }
    }
}

#[cached(cache = LOCAL)]
async fn pinned(id: u64) -> u64 {
    id
}

/// Pinned: what is not in a block has a key that does not change with the file around it.
#[tokio::test]
async fn the_key_of_a_function_in_a_module_is_its_path_and_arguments() {
    #[derive(CacheKey)]
    struct Call(&'static str, &'static str, u64);
    pinned(77).await;
    let key = async_cache::key::Key::encode(&Call("decorated_keys", "pinned", 77)).unwrap();
    let key = String::from_utf8(key.as_bytes().to_vec()).unwrap();
    assert!(LOCAL.contains(key.as_str()).await.unwrap(), "{key}");
}

#[derive(Clone)]
struct User {
    id: u64,
    name: String,
}

impl User {
    fn initial(&self) -> char {
        self.name.chars().next().unwrap_or('?')
    }
}

#[cached(cache = cache, key = id, skip(cache))]
async fn by_value(cache: &Cache, id: u64) -> u64 {
    id
}

#[cached(cache = cache, key = name, skip(cache))]
async fn by_reference(cache: &Cache, name: &str) -> u64 {
    name.len() as u64
}

#[cached(cache = cache, key = (team, name, user.id), skip(cache))]
async fn by_tuple(cache: &Cache, team: u64, name: String, user: &User) -> u64 {
    team + name.len() as u64 + user.id
}

#[cached(cache = cache, key = format!("user:{}:{team}", user.initial()), skip(cache))]
async fn by_call(cache: &Cache, team: u64, user: User) -> u64 {
    team + user.id
}

#[cached(cache = cache, key = "of:{user.initial()}:{name.to_lowercase()}", skip(cache), tags("u:{user.id}"))]
async fn by_placeholder(cache: &Cache, user: &User, name: &str) -> u64 {
    user.id + name.len() as u64
}

#[tokio::test]
async fn a_key_may_be_an_expression() {
    let cache = cache("expressions");
    let user = User { id: 7, name: "Ada".to_owned() };
    by_value(&cache, 1).await;
    by_reference(&cache, "a:b").await;
    by_tuple(&cache, 1, "a:b".to_owned(), &user).await;
    by_call(&cache, 1, user.clone()).await;
    by_placeholder(&cache, &user, "X").await;
    for key in ["1", "a:b", "1:a\\:b:7", "user:A:1", "of:A:x"] {
        assert!(cache.contains(key).await.unwrap(), "{key}");
    }
    assert_eq!(by_value(&cache, 2).await, 2);
    assert_eq!(cache.stats().loads, 6);
    by_tuple_invalidate(&cache, 1, "a:b".to_owned(), &user).await.unwrap();
    by_tuple(&cache, 1, "a:b".to_owned(), &user).await;
    assert_eq!(cache.stats().loads, 7);
}

#[cached(cache = cache, skip(cache))]
async fn optional(cache: &Cache, name: Option<&str>, ids: Option<&[u64]>, all: &[u64]) -> Option<u64> {
    Some(name?.len() as u64 + ids.map_or(0, |ids| ids.iter().sum()) + all.len() as u64)
}

#[tokio::test]
async fn optional_references_are_arguments() {
    let cache = cache("optional");
    for _ in 0..2 {
        assert_eq!(optional(&cache, None, None, &[]).await, None);
        assert_eq!(optional(&cache, Some(""), None, &[]).await, Some(0));
        assert_eq!(optional(&cache, Some("ab"), Some(&[1, 2]), &[9]).await, Some(6));
        assert_eq!(optional(&cache, Some("ab"), Some(&[1]), &[2, 9]).await, Some(5));
        assert_eq!(optional(&cache, Some("ab"), Some(&[]), &[]).await, Some(2));
    }
    assert_eq!(cache.stats().loads, 5);
    optional_invalidate(&cache, Some("ab"), Some(&[1, 2]), &[9]).await.unwrap();
    optional_refresh(&cache, None, None, &[]).await;
    optional(&cache, Some("ab"), Some(&[1, 2]), &[9]).await;
    assert_eq!(cache.stats().loads, 7);
}
