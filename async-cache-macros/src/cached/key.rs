//! Builds the key of a call.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, Expr, GenericParam, Generics, Path, Result};

use super::arguments::{Arguments, KeySource};
use super::function::{Argument, Passing};
use super::template::{Part, Template};

/// Every argument must be in the key or be skipped, and every name must be the name of an argument.
pub(crate) fn check(attribute: &Arguments, arguments: &[Argument]) -> Result<()> {
    let known = |name: &Ident| arguments.iter().any(|argument| argument.name == *name);
    let mentioned: Vec<Ident> = attribute.key.iter().flat_map(KeySource::mentions).collect();
    let texts = attribute.tags.iter().chain(match &attribute.key {
        Some(KeySource::Text(template)) => Some(template),
        Some(KeySource::Value(_)) | None => None,
    });
    let roots: Vec<Ident> = texts.flat_map(Template::roots).collect();
    for name in attribute.skip.iter().chain(&roots) {
        if !known(name) {
            return Err(Error::new(name.span(), format!("the function has no argument `{name}`")));
        }
    }
    for argument in arguments {
        let name = &argument.name;
        let in_key = mentioned.contains(name);
        let skipped = attribute.skip.contains(name);
        let receiver = matches!(argument.passing, Passing::Receiver(_));
        let says = match (&attribute.key, in_key, skipped) {
            (_, true, true) => format!("`{name}` is both in `key` and in `skip(..)`"),
            (_, false, false) if receiver => {
                "`self` is not in the key: name it in `skip(self)`, or use its fields in `key`, such as `{self.tenant}`".to_owned()
            }
            (Some(_), false, false) => format!(
                "argument `{name}` is neither in `key` nor in `skip(..)`: two calls that differ in it would share an entry"
            ),
            _ => continue,
        };
        return Err(Error::new(name.span(), says));
    }
    match &attribute.key {
        Some(KeySource::Text(template)) => separated(template),
        Some(KeySource::Value(_)) | None => Ok(()),
    }
}

/// Between two placeholders there must be a `:`, which is escaped inside them. Otherwise different arguments could make
/// one key.
fn separated(key: &Template) -> Result<()> {
    let mut since: Option<bool> = None;
    for part in &key.parts {
        match part {
            Part::Text(text) => since = since.map(|colon| colon || text.contains(':')),
            Part::Value(..) if since == Some(false) => {
                return Err(Error::new(
                    key.span,
                    "two placeholders need a `:` between them, or different arguments could make the same key",
                ));
            }
            Part::Value(..) => since = Some(false),
        }
    }
    Ok(())
}

/// Statements that make `__key`, a value that implements `CacheKey` and borrows the arguments.
pub(crate) fn statements(attribute: &Arguments, arguments: &[Argument], function: &Named<'_>) -> TokenStream {
    let mut fields: Vec<TokenStream> = Vec::new();
    let encode = match &attribute.key {
        Some(KeySource::Value(expr)) => {
            let value = borrowed(expr, arguments);
            return quote_spanned! {expr.span()=>
                let __part0 = #value;
                let __key = __part0;
            };
        }
        Some(KeySource::Text(template)) => from_template(template, arguments, &mut fields),
        None => from_all(attribute, arguments, function, &mut fields),
    };
    write(&attribute.krate, &fields, &encode)
}

/// The function's name, its type parameters, and the item that identifies its place.
pub(crate) struct Named<'a> {
    pub(crate) name: &'a Ident,
    pub(crate) generics: &'a Generics,
    /// `Self::` or nothing, and the item.
    pub(crate) place: TokenStream,
    pub(crate) place_name: String,
    /// Levels between its module and itself.
    pub(crate) levels: usize,
    /// Distinguishes it from another function with its name in the same block.
    pub(crate) digest: String,
}

/// A reference to the key. It moves no argument: the arguments in a tuple are borrowed one by one.
fn borrowed(expr: &Expr, arguments: &[Argument]) -> TokenStream {
    match expr {
        Expr::Tuple(tuple) => {
            let elements = tuple.elems.iter().map(|element| borrowed(element, arguments));
            quote!(&(#(#elements,)*))
        }
        Expr::Paren(inner) => borrowed(&inner.expr, arguments),
        Expr::Reference(_) => quote!(#expr),
        Expr::Path(_) if is_reference(expr, arguments) => quote!(#expr),
        _ => quote!(&(#expr)),
    }
}

/// Whether an expression is an argument that already is a reference.
fn is_reference(expr: &Expr, arguments: &[Argument]) -> bool {
    let Expr::Path(path) = expr else { return false };
    path.path.get_ident().is_some_and(|name| {
        let argument = arguments.iter().find(|argument| argument.name == *name);
        argument.is_some_and(|argument| matches!(argument.passing, Passing::Reference(_)))
    })
}

/// Names for the parts of the key.
fn parts(count: usize) -> Vec<Ident> {
    (0..count).map(|at| format_ident!("__part{at}")).collect()
}

/// Statements that report an argument that cannot be a key, at its place. The other statements take the key as it is, so
/// one such argument causes one error.
pub(crate) fn checks(attribute: &Arguments, arguments: &[Argument], function: &Named<'_>) -> TokenStream {
    let krate = &attribute.krate;
    let mut fields: Vec<TokenStream> = Vec::new();
    let spans: Vec<Span> = match &attribute.key {
        Some(KeySource::Value(expr)) => vec![expr.span()],
        Some(KeySource::Text(template)) => {
            from_template(template, arguments, &mut fields);
            vec![template.span; fields.len()]
        }
        None => {
            from_all(attribute, arguments, function, &mut fields);
            fields.iter().map(Spanned::span).collect()
        }
    };
    let checks = parts(spans.len()).into_iter().zip(spans).map(|(part, span)| {
        let part = Ident::new(&part.to_string(), Span::call_site().located_at(span));
        quote_spanned!(span=> #krate::decorated::must_be_key(#part);)
    });
    quote!(#(#checks)*)
}

/// The struct is generic over its fields, so the macro need not write their types.
fn write(krate: &Path, fields: &[TokenStream], encode: &TokenStream) -> TokenStream {
    let types: Vec<Ident> = (0..fields.len()).map(|at| format_ident!("T{at}")).collect();
    let parts = parts(fields.len());
    quote! {
        struct __Key<'a, #(#types: ?Sized),*>(#(&'a #types,)* ::core::marker::PhantomData<&'a ()>);
        impl<#(#types: #krate::CacheKey + ?Sized),*> #krate::CacheKey for __Key<'_, #(#types),*> {
            fn encode(&self, out: &mut #krate::key::KeyWriter<'_>) {
                #encode
            }
        }
        #(let #parts = #fields;)*
        let __key = &__Key(#(#parts,)* ::core::marker::PhantomData);
    }
}

fn from_template(template: &Template, arguments: &[Argument], fields: &mut Vec<TokenStream>) -> TokenStream {
    let alone = template.parts.len() == 1;
    let steps = template.parts.iter().map(|part| match part {
        Part::Text(text) => quote!(out.str(#text);),
        Part::Value(value) => {
            let at = syn::Index::from(fields.len());
            fields.push(if is_reference(value, arguments) { quote!(#value) } else { quote!(&#value) });
            if alone { quote!(self.#at.encode(out);) } else { quote!(out.first(self.#at);) }
        }
    });
    quote!(#(#steps)*)
}

/// The function's path, its name, its type parameters, then every argument that is not skipped.
fn from_all(
    attribute: &Arguments,
    arguments: &[Argument],
    function: &Named<'_>,
    fields: &mut Vec<TokenStream>,
) -> TokenStream {
    let krate = &attribute.krate;
    let Named { name, generics, place, place_name, levels, digest } = function;
    let (text, suffix) = (name.to_string(), format!("::{place_name}"));
    fields.push(quote! {
        #krate::decorated::place(::core::any::type_name_of_val(&#place), #suffix)
    });
    // The place in the file distinguishes a function in a block from its namesake in another block.
    fields.push(quote! {
        #krate::decorated::name(
            __part0,
            ::core::module_path!(),
            #levels,
            #text,
            ::core::concat!(#text, "@", ::core::line!(), ":", ::core::column!(), ":", #digest),
        )
    });
    for parameter in &generics.params {
        match parameter {
            GenericParam::Type(parameter) => {
                let parameter = &parameter.ident;
                fields.push(quote!(::core::any::type_name::<#parameter>()));
            }
            GenericParam::Const(parameter) => {
                let parameter = &parameter.ident;
                fields.push(quote!(&{ #parameter }));
            }
            GenericParam::Lifetime(_) => {}
        }
    }
    for argument in arguments.iter().filter(|argument| !attribute.skip.contains(&argument.name)) {
        let name = &argument.name;
        fields.push(match argument.passing {
            Passing::Reference(_) => quote!(#name),
            Passing::Value(_) | Passing::OptionalReference(_) | Passing::Receiver(_) => {
                quote_spanned!(name.span()=> &#name)
            }
        });
    }
    let rest = (1..fields.len()).map(|at| syn::Index { index: at as u32, span: Span::call_site() });
    quote!(out.first(self.0); #(out.next(self.#rest);)*)
}
