//! `crate = PATH`: where async-cache is, for a crate that has it under another name, or not at all.

use proc_macro2::Span;
use syn::parse::ParseStream;
use syn::{LitStr, Path, Result, Token, parse_quote};

/// Reads `= path`, or `= "path"` as `serde` has it.
pub(crate) fn crate_path(input: ParseStream<'_>) -> Result<Path> {
    input.parse::<Token![=]>()?;
    let mut path = match input.peek(LitStr) {
        true => input.parse::<LitStr>()?.parse_with(Path::parse_mod_style)?,
        false => Path::parse_mod_style(input)?,
    };
    // As our own code: no lint of the caller's is about it. Where `$crate` leads depends on its span.
    if path.segments.first().is_some_and(|first| first.ident != "$crate") {
        path.segments.iter_mut().for_each(|segment| segment.ident.set_span(Span::call_site()));
    }
    Ok(path)
}

pub(crate) fn default_path() -> Path {
    parse_quote!(::async_cache)
}
