//! `crate = PATH`: the path of async-cache, for a crate that renames it or does not depend on it.

use proc_macro2::Span;
use syn::parse::ParseStream;
use syn::{LitStr, Path, Result, Token, parse_quote};

/// Reads `= path`, or `= "path"` as in `serde`.
pub(crate) fn crate_path(input: ParseStream<'_>) -> Result<Path> {
    input.parse::<Token![=]>()?;
    let mut path = match input.peek(LitStr) {
        true => input.parse::<LitStr>()?.parse_with(Path::parse_mod_style)?,
        false => Path::parse_mod_style(input)?,
    };
    // With the macro's span the caller's lints do not apply. `$crate` keeps its span, which decides its crate.
    if path.segments.first().is_some_and(|first| first.ident != "$crate") {
        path.segments.iter_mut().for_each(|segment| segment.ident.set_span(Span::call_site()));
    }
    Ok(path)
}

pub(crate) fn default_path() -> Path {
    parse_quote!(::async_cache)
}
