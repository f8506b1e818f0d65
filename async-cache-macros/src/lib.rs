//! Macros of async-cache. Use them through the facade, `async_cache`, which documents them with runnable examples.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod cached;
mod derive;
mod path;

use proc_macro::TokenStream;
use syn::parse_macro_input;

/// Puts a cache in front of an `async fn`. The signature stays as it is. One caller in the fleet runs the body, the others get its value.
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
/// | `cache = EXPR` | the [`TieredCache`]: a static, a function call, or a field of `self`. Required. |
/// | `key = "user:{id}"` | the key. The default is the function's path, its type parameters and all arguments. So moving or renaming a function changes its keys. |
/// | `key = EXPR` | the key, as a value made from arguments: `id`, `(team, name)`, `format!("user:{id}")` |
/// | `skip(a, self)` | arguments that are not part of the key |
/// | `tags("team:{team}", ..)` | tags of the entry |
/// | `ttl = "5m"` | any option of `StoreOptions` or `LoadOptions` by its name; it overrides the cache's option. A time is a text (`"1h 30m"`, `"250ms"`) or an expression |
/// | `crate = PATH` | the path of `async_cache`, if it is not `::async_cache`: because it is renamed or re-exported |
///
/// A placeholder is an argument, or an expression on one: `{id}`, `{user.id}`, `{self.tenant()}`. In a key it becomes the
/// argument's [`CacheKey`] encoding, escaped as a component of a tuple. A placeholder that is the whole key is not escaped:
/// `key = "{id}"` is the entry that `cache.get(&id)` finds. Put a `:` between two placeholders, so that
/// different arguments always make different keys. In a tag a placeholder becomes the argument's `Display`.
///
/// The key of an expression is its value's [`CacheKey`] encoding. You ensure that different arguments make different keys. The
/// components of a tuple are borrowed. In other expressions, borrow arguments that would be moved.
///
/// A function inside another function has no path of its own, so its place in the file is part of its key. Give it a `key`
/// if two versions of a service run at the same time and are to share entries.
///
/// # The function
///
/// * If `key` does not mention an argument and `skip` does not name it, that is a compile error: two
///   calls that differ in the argument would share an entry.
/// * The load outlives the call, so it gets clones of the arguments: plain references and `Option`s of them by
///   [`ToOwned`], everything else (`self` too) by [`Clone`]. A hit clones only the value.
/// * The body runs in its own task. A `tokio::task_local!` of the caller is not set there, and reading it panics.
///   Read it in the caller, and pass its value as an argument.
/// * The function returns `T`, `Option<T>`, `Result<T, E>` or `Result<Option<T>, E>`, with `T: Clone`. Each hit clones the value, so
///   use an `Arc` for a large value. A `None` is cached for `negative_ttl`; an error is not cached.
/// * If the function fails, the caller that led its run gets the function's own error, of any type. The waiting callers get a
///   clone if `E` is `Clone` and `std::error::Error`: prefer such an `E`, and keep a part that is not `Clone` in an `Arc`.
///   Otherwise `E` must be `From<async_cache::Error>`, like `anyhow::Error`, `Box<dyn Error + Send + Sync>`, and an enum
///   with `#[from] async_cache::Error`. Then they get the conversion of the cache's error. Its `source` has the function's
///   message, but not the function's error, which the leading caller owns: `loader_error::<E>()` does not find it. Errors of
///   the cache itself (a key that is too long, a load over its limit, a cache shut down) are converted by `From`, too. If
///   `E` has no such `From`, the function runs as if there were no cache. A panic continues in every waiting caller.
/// * Methods and associated functions work in `impl` blocks of types, but not in traits or in `impl` blocks of traits.
///   There, call a method of the type.
///
/// # Siblings
///
/// `NAME_refresh` has the signature of the function. `NAME_invalidate` takes `self` and the arguments of the key,
/// and returns `Result<Stamp, async_cache::Error>`. A decorated function has no `at_least`. If you need it,
/// set `key`, and read that key from the cache.
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
    // The function stays, because its absence would cause a second error.
    let or_as_it_was = |error: syn::Error| {
        let error = error.into_compile_error();
        quote::quote!(#error #[allow(unused)] #function)
    };
    cached::expand(&arguments, &function).unwrap_or_else(or_as_it_was).into()
}

/// Derives `CacheKey` for a struct or enum. The encoding joins the fields with `:`. For an enum the variant's name comes first.
///
/// A struct with one field has the encoding of that field: `struct UserId(u64)` shares its encoding with
/// `u64`. Renaming a variant, or reordering fields, changes the encoding.
///
/// `#[cache_key(crate = PATH)]` sets the path of `async_cache`, if it is not `::async_cache`: in a crate that renames it,
/// or in code that a macro of a re-exporting crate writes. As in `serde`, the path may also be a text.
#[proc_macro_derive(CacheKey, attributes(cache_key))]
pub fn derive_cache_key(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::DeriveInput);
    derive::expand(item).unwrap_or_else(syn::Error::into_compile_error).into()
}
