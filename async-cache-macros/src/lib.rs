//! Macros of async-cache. Use them through the facade, `async_cache`, which documents them with
//! examples that run.

#![forbid(unsafe_code)]

mod cached;
mod derive;
mod path;

use proc_macro::TokenStream;
use syn::parse_macro_input;

/// Puts a cache in front of an `async fn`: same signature, same return type, loaded once in the fleet.
///
/// ```ignore
/// #[cached(cache = USERS, ttl = "5m", tags("team:{team}"))]
/// async fn find_user(team: u32, id: u64) -> Result<User, DbError> { .. }
///
/// find_user(9, 42).await?;             // from the cache, or loaded
/// find_user_refresh(9, 42).await?;     // loaded, and replaced on every node
/// find_user_invalidate(9, 42).await?;  // dropped on every node
/// ```
///
/// # Arguments
///
/// | argument | meaning |
/// |---|---|
/// | `cache = EXPR` | the [`TieredCache`]: a static, a function call, or a field of `self`. Needed. |
/// | `key = "user:{id}"` | the key. Without it: the function's path, its type parameters and all arguments, so that a function that is moved or renamed has other keys. |
/// | `key = EXPR` | the key, as a value made of arguments: `id`, `(team, name)`, `format!("user:{id}")` |
/// | `skip(a, self)` | arguments that are no part of the key |
/// | `tags("team:{team}", ..)` | tags of the entry |
/// | `ttl = "5m"` | any option of `StoreOptions` or `LoadOptions` by its name, over that of the cache: times as text (`"1h 30m"`, `"250ms"`) or as an expression |
/// | `crate = PATH` | where `async_cache` is, if not at `::async_cache`: under another name, or re-exported |
///
/// Placeholders name arguments, or what is made of one: `{id}`, `{user.id}`, `{self.tenant()}`. In a key they stand for the
/// argument's [`CacheKey`] encoding, escaped as a component of a tuple, or as it is where the placeholder is the whole
/// key: `key = "{id}"` is the entry that `cache.get(&id)` finds. Two placeholders must be separated by a `:`, so that
/// different arguments always make different keys. In a tag they stand for the argument's `Display`.
///
/// An expression is its value's [`CacheKey`] encoding; whether different arguments make different keys is up to it. What
/// a tuple holds is borrowed; elsewhere, borrow what would be moved.
///
/// A function inside another function has no path of its own: its place in the file is part of its key. Give it a `key`
/// if versions of a service that run at the same time are to share entries.
///
/// # The function
///
/// * Every argument that `key` does not mention and `skip` does not name is a compile error: two
///   calls that differ in it would share an entry.
/// * Arguments are cloned into the load, which outlives the call: plain references by
///   [`ToOwned`], and so `Option`s of them, everything else (`self` too) by [`Clone`]. A hit clones nothing but the
///   value.
/// * The body runs in a task of its own, where no `tokio::task_local!` of the caller's is set: reading one panics.
///   Read it in the caller, and pass it as an argument.
/// * Returns `T`, `Option<T>`, `Result<T, E>` or `Result<Option<T>, E>`, `T: Clone`. Each hit clones the value: let a
///   large one be an `Arc`. A `None` is cached for `negative_ttl`; an error is not cached.
/// * The caller whose run of the function failed gets the function's own error, whatever its type. A caller who
///   waited for the run of another gets a clone if `E` is `Clone`; else `E` must be `From<async_cache::Error>`, as are
///   `anyhow::Error`, `Box<dyn Error + Send + Sync>`, and an enum with `#[from] async_cache::Error`: it gets what that
///   makes of the cache's error, whose `source` says what the function said. What the cache itself fails with (a key
///   that is too long, a load over its limit, a cache shut down) is given by way of `From`, too; without it the
///   function is run as if there were no cache. A panic goes on in everyone who waited for it.
/// * Methods and associated functions work in `impl` blocks of types, not in traits or in `impl` blocks of traits:
///   there, call one of the type's.
///
/// # Siblings
///
/// `NAME_refresh` takes and returns the same as the function. `NAME_invalidate` takes the arguments of the key, and
/// `self`, and returns `Result<Stamp, async_cache::Error>`. A call has no `at_least`: for that,
/// set `key`, and ask the cache for that key.
///
/// [`TieredCache`]: https://docs.rs/async-cache-core/latest/async_cache_core/struct.TieredCache.html
/// [`CacheKey`]: https://docs.rs/async-cache-core/latest/async_cache_core/trait.CacheKey.html
#[proc_macro_attribute]
pub fn cached(arguments: TokenStream, function: TokenStream) -> TokenStream {
    let arguments = parse_macro_input!(arguments as cached::Arguments);
    let function = match syn::parse::<syn::ImplItemFn>(function.clone()) {
        Ok(function) => function,
        Err(error) => {
            let declared = syn::parse::<syn::TraitItemFn>(function).is_ok();
            let says =
                "a function without a body cannot be cached: decorate a method of the type that has one";
            let error = if declared { syn::Error::new(proc_macro2::Span::call_site(), says) } else { error };
            return error.into_compile_error().into();
        }
    };
    // With the function as it was: that it is missing would be one error more.
    let or_as_it_was = |error: syn::Error| {
        let error = error.into_compile_error();
        quote::quote!(#error #[allow(unused)] #function)
    };
    cached::expand(&arguments, &function).unwrap_or_else(or_as_it_was).into()
}

/// Makes a struct or enum a `CacheKey`: its fields joined by `:`, an enum's behind the variant's name.
///
/// A struct of one field is encoded as that field alone: `struct UserId(u64)` shares its encoding with
/// `u64`. Renaming a variant, or reordering fields, changes the encoding.
///
/// `#[cache_key(crate = PATH)]` says where `async_cache` is, if not at `::async_cache`: in a crate that has it under
/// another name, or in code written by a macro of a crate that re-exports it. The path may also be text, as `serde`
/// has it.
#[proc_macro_derive(CacheKey, attributes(cache_key))]
pub fn derive_cache_key(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::DeriveInput);
    derive::expand(item).unwrap_or_else(syn::Error::into_compile_error).into()
}
