//! The types by which a key can be looked up.

use std::borrow::Borrow;
use std::path::{Path, PathBuf};

use crate::format::key::CacheKey;

/// Keys that can be looked up by a `Q`. `Q` may be another type than the key.
///
/// A `String` key is found by a `str`, and any key by a type as which it can be [borrowed](Borrow). A tuple
/// cannot be borrowed in parts. It is found by a tuple of its borrowed parts: `(u64, String)` by `(u64, &str)`.
///
/// ```
/// # use async_cache_core::{Result, TieredCache}; use async_cache_memory::MemoryBackend;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// let pages: TieredCache<(u64, String), u32> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
/// pages.insert(&(7, "/start".to_owned()), 1).await?;
/// assert!(pages.contains(&(7, "/start")).await?);
/// # Ok(()) }
/// ```
///
/// The compiler infers `By`. Do not name it.
#[diagnostic::on_unimplemented(
    message = "keys of type `{Self}` cannot be looked up by `{Q}`",
    label = "a `{Self}` is wanted here, or what it can be borrowed as"
)]
pub trait FoundBy<Q: ?Sized, By>: CacheKey {}

/// Marks a key that can be borrowed as the lookup type.
#[doc(hidden)]
#[derive(Debug)]
pub enum Whole {}

/// Marks a tuple. `PART` is the position of its first borrowed part.
#[doc(hidden)]
#[derive(Debug)]
pub enum Part<const PART: usize> {}

#[diagnostic::do_not_recommend]
impl<K: CacheKey + Borrow<Q>, Q: ?Sized> FoundBy<Q, Whole> for K {}

/// A part of a key that is borrowed as `Q` in a tuple. `Q` is never the type itself, because then a tuple would
/// be found in two ways.
#[doc(hidden)]
pub trait Lends<Q>: CacheKey {}

/// A part of a key that is `Q` itself, or is borrowed as `Q` in a tuple.
#[doc(hidden)]
pub trait PartBy<Q>: CacheKey {}

impl<T: CacheKey> PartBy<T> for T {}

macro_rules! lends {
    ($([$($g:tt)*] $owned:ty: $borrowed:ty;)*) => {$(
        impl<'a, $($g)*> Lends<&'a $borrowed> for $owned {}
        impl<'a, $($g)*> PartBy<&'a $borrowed> for $owned {}
        impl<'a, $($g)*> Lends<Option<&'a $borrowed>> for Option<$owned> {}
        impl<'a, $($g)*> PartBy<Option<&'a $borrowed>> for Option<$owned> {}
    )*};
}
lends! {
    [T: CacheKey] T: T;
    [] String: str;
    [] Box<str>: str;
    [] std::sync::Arc<str>: str;
    [T: CacheKey] Vec<T>: [T];
    [T: CacheKey, const N: usize] [T; N]: [T];
    [] PathBuf: Path;
}

macro_rules! tuples {
    ($($part:literal: ($($same:ident)*) $owned:ident $lent:ident ($($later:ident $found:ident)*);)*) => {$(
        #[diagnostic::do_not_recommend]
        impl<$($same: CacheKey,)* $owned, $lent $(, $later, $found)*>
            FoundBy<($($same,)* $lent, $($found,)*), Part<$part>> for ($($same,)* $owned, $($later,)*)
        where
            $owned: Lends<$lent>,
            $($later: PartBy<$found>,)*
        {
        }
    )*};
}
tuples! {
    0: () A X ();
    0: () A X (B Y);
    1: (A) B Y ();
    0: () A X (B Y C Z);
    1: (A) B Y (C Z);
    2: (A B) C Z ();
    0: () A X (B Y C Z D W);
    1: (A) B Y (C Z D W);
    2: (A B) C Z (D W);
    3: (A B C) D W ();
    0: () A X (B Y C Z D W E V);
    1: (A) B Y (C Z D W E V);
    2: (A B) C Z (D W E V);
    3: (A B C) D W (E V);
    4: (A B C D) E V ();
    0: () A X (B Y C Z D W E V F U);
    1: (A) B Y (C Z D W E V F U);
    2: (A B) C Z (D W E V F U);
    3: (A B C) D W (E V F U);
    4: (A B C D) E V (F U);
    5: (A B C D E) F U ();
    0: () A X (B Y C Z D W E V F U G T);
    1: (A) B Y (C Z D W E V F U G T);
    2: (A B) C Z (D W E V F U G T);
    3: (A B C) D W (E V F U G T);
    4: (A B C D) E V (F U G T);
    5: (A B C D E) F U (G T);
    6: (A B C D E F) G T ();
    0: () A X (B Y C Z D W E V F U G T H S);
    1: (A) B Y (C Z D W E V F U G T H S);
    2: (A B) C Z (D W E V F U G T H S);
    3: (A B C) D W (E V F U G T H S);
    4: (A B C D) E V (F U G T H S);
    5: (A B C D E) F U (G T H S);
    6: (A B C D E F) G T (H S);
    7: (A B C D E F G) H S ();
}
