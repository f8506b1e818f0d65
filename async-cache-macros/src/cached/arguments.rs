//! Parses `#[cached(..)]`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, ExprLit, Lit, LitStr, Path, Result, Token, parenthesized, parse_quote};

use super::template::{Template, names_in};
use crate::path::{crate_path, default_path};

/// The attribute's arguments.
pub(crate) struct Arguments {
    pub(crate) cache: Expr,
    pub(crate) key: Option<KeySource>,
    pub(crate) skip: Vec<Ident>,
    pub(crate) tags: Vec<Template>,
    /// Options of the entry: the setter's name and its argument.
    pub(crate) options: Vec<(Ident, TokenStream)>,
    pub(crate) krate: Path,
}

/// The value of `key =`.
pub(crate) enum KeySource {
    /// Text with placeholders.
    Text(Template),
    /// An expression whose value is the key.
    Value(Box<Expr>),
}

impl KeySource {
    fn of(given: Expr) -> Result<Self> {
        match given {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Template::parse(&text).map(Self::Text),
            other => Ok(Self::Value(Box::new(other))),
        }
    }

    /// The names that the key mentions, arguments or not.
    pub(crate) fn mentions(&self) -> Vec<Ident> {
        match self {
            Self::Text(template) => template.mentions(),
            Self::Value(expr) => names_in(expr.to_token_stream()),
        }
    }
}

const TIMES: &[&str] = &[
    "ttl",
    "l1_ttl",
    "negative_ttl",
    "stale_for",
    "error_backoff",
    "error_ttl",
    "soft_timeout",
    "load_timeout",
    "lease_ttl",
    "wait_timeout",
];
const NUMBERS: &[&str] = &["ttl_jitter", "refresh_ahead"];
const SWITCHES: &[&str] = &["stale_while_revalidate", "stale_on_error"];

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let (mut cache, mut key, mut krate) = (None, None, None);
        let (mut skip, mut tags, mut options) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen: Vec<String> = Vec::new();
        while !input.is_empty() {
            let name = input.call(Ident::parse_any)?;
            let text = name.to_string();
            if seen.contains(&text) {
                return Err(Error::new(name.span(), format!("`{text}` is given twice")));
            }
            match text.as_str() {
                "cache" => cache = Some(value(input)?),
                "key" => key = Some(KeySource::of(value(input)?)?),
                "crate" => krate = Some(crate_path(input)?),
                "skip" => skip = list(input, Ident::parse_any)?,
                "tags" => {
                    let texts: Vec<LitStr> = list(input, <LitStr as Parse>::parse)?;
                    tags = texts.iter().map(Template::parse).collect::<Result<_>>()?;
                }
                time if TIMES.contains(&time) => options.push((name, duration(&value(input)?)?)),
                number if NUMBERS.contains(&number) => {
                    let number: Expr = value(input)?;
                    options.push((name, quote!(#number)));
                }
                switch if SWITCHES.contains(&switch) => {
                    let on: Expr = if input.peek(Token![=]) { value(input)? } else { parse_quote!(true) };
                    options.push((name, quote!(#on)));
                }
                _ => return Err(unknown(&name)),
            }
            seen.push(text);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        let cache = cache.ok_or_else(|| {
            Error::new(
                Span::call_site(),
                "name the cache: `#[cached(cache = USERS)]`, a static, a call or a field of `self`",
            )
        })?;
        Ok(Self { cache, key, skip, tags, options, krate: krate.unwrap_or_else(default_path) })
    }
}

fn value<T: Parse>(input: ParseStream<'_>) -> Result<T> {
    input.parse::<Token![=]>()?;
    input.parse()
}

fn list<T>(input: ParseStream<'_>, item: fn(ParseStream<'_>) -> Result<T>) -> Result<Vec<T>> {
    let inside;
    parenthesized!(inside in input);
    Ok(Punctuated::<T, Token![,]>::parse_terminated_with(&inside, item)?.into_iter().collect())
}

/// A time. The macro parses a text; anything else is an expression of type `Duration`.
fn duration(given: &Expr) -> Result<TokenStream> {
    let text = match given {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => text,
        Expr::Lit(other) => {
            return Err(Error::new_spanned(
                other,
                "a time has a unit: write it as text, such as \"5m\", \"1h 30m\" or \"250ms\"",
            ));
        }
        other => return Ok(quote!(#other)),
    };
    let span = humantime::parse_duration(&text.value()).map_err(|error| {
        Error::new(text.span(), format!("{error}: a time looks like \"5m\", \"1h 30m\" or \"250ms\""))
    })?;
    let (seconds, nanos) = (span.as_secs(), span.subsec_nanos());
    Ok(quote!(::core::time::Duration::new(#seconds, #nanos)))
}

fn unknown(name: &Ident) -> Error {
    let known = ["cache", "key", "skip", "tags", "crate"].iter().chain(TIMES).chain(NUMBERS).chain(SWITCHES);
    let known: Vec<&str> = known.copied().collect();
    Error::new(name.span(), format!("`{name}` is no argument of `cached`: there are {}", known.join(", ")))
}
