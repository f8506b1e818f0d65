//! What the key of a call is made of.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::{Error, GenericParam, Generics, Path, Result};

use super::arguments::Arguments;
use super::function::{Argument, Passing};
use super::template::{Part, Template};

/// Every argument must be in the key or be skipped, and every name must be one of an argument.
pub(crate) fn check(attribute: &Arguments, arguments: &[Argument]) -> Result<()> {
    let known = |name: &Ident| arguments.iter().any(|argument| argument.name == *name);
    let mentioned: Vec<&Ident> = attribute.key.iter().flat_map(Template::mentions).collect();
    let tagged = attribute.tags.iter().flat_map(Template::mentions);
    for name in attribute.skip.iter().chain(mentioned.iter().copied()).chain(tagged) {
        if !known(name) {
            return Err(Error::new(name.span(), format!("the function has no argument `{name}`")));
        }
    }
    for argument in arguments {
        let name = &argument.name;
        let in_key = mentioned.contains(&name);
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
    attribute.key.as_ref().map_or(Ok(()), separated)
}

/// Between two placeholders there must be a `:`, which inside them is escaped: only so do different
/// arguments make different keys.
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

/// An expression for a value that implements `CacheKey` and borrows the arguments.
///
/// The struct is generic over its fields, so that no type need be written down here.
pub(crate) fn expression(
    attribute: &Arguments,
    arguments: &[Argument],
    (name, generics): (&Ident, &Generics),
) -> TokenStream {
    let krate = &attribute.krate;
    let mut fields: Vec<TokenStream> = Vec::new();
    let encode = match &attribute.key {
        Some(template) => from_template(template, arguments, &mut fields),
        None => from_all(attribute, arguments, (name, generics), &mut fields),
    };
    write(krate, &fields, &encode)
}

fn write(krate: &Path, fields: &[TokenStream], encode: &TokenStream) -> TokenStream {
    let types: Vec<Ident> = (0..fields.len()).map(|at| format_ident!("T{at}")).collect();
    quote! {{
        struct Key<'a, #(#types: ?Sized),*>(#(&'a #types,)* ::core::marker::PhantomData<&'a ()>);
        impl<#(#types: #krate::CacheKey + ?Sized),*> #krate::CacheKey for Key<'_, #(#types),*> {
            fn encode(&self, out: &mut #krate::key::KeyWriter<'_>) {
                #encode
            }
        }
        Key(#(#fields,)* ::core::marker::PhantomData)
    }}
}

fn from_template(template: &Template, arguments: &[Argument], fields: &mut Vec<TokenStream>) -> TokenStream {
    let alone = template.parts.len() == 1;
    let steps = template.parts.iter().map(|part| match part {
        Part::Text(text) => quote!(out.str(#text);),
        Part::Value(value, root) => {
            let at = syn::Index::from(fields.len());
            let plain = matches!(**value, syn::Expr::Path(_));
            let argument = arguments.iter().find(|argument| argument.name == *root);
            fields.push(match argument.map(|argument| &argument.passing) {
                // A reference already.
                Some(Passing::Reference(_)) if plain => quote!(#value),
                _ => quote!(&#value),
            });
            if alone { quote!(self.#at.encode(out);) } else { quote!(out.first(self.#at);) }
        }
    });
    quote!(#(#steps)*)
}

/// The function's path, its type parameters, then every argument that is not skipped.
fn from_all(
    attribute: &Arguments,
    arguments: &[Argument],
    (name, generics): (&Ident, &Generics),
    fields: &mut Vec<TokenStream>,
) -> TokenStream {
    let text = name.to_string();
    let owner = arguments.iter().find(|argument| matches!(argument.passing, Passing::Receiver(_)));
    fields.push(match owner {
        Some(_) => quote!(::core::any::type_name::<Self>()),
        None => quote!(::core::module_path!()),
    });
    fields.push(quote!(#text));
    for parameter in &generics.params {
        match parameter {
            GenericParam::Type(parameter) => {
                let parameter = &parameter.ident;
                fields.push(quote!(::core::any::type_name::<#parameter>()));
            }
            GenericParam::Const(parameter) => {
                let parameter = &parameter.ident;
                fields.push(quote!(&#parameter));
            }
            GenericParam::Lifetime(_) => {}
        }
    }
    for argument in arguments.iter().filter(|argument| !attribute.skip.contains(&argument.name)) {
        let name = &argument.name;
        fields.push(match argument.passing {
            Passing::Reference(_) => quote!(#name),
            Passing::Value(_) | Passing::Receiver(_) => quote!(&#name),
        });
    }
    let rest = (1..fields.len()).map(|at| syn::Index { index: at as u32, span: Span::call_site() });
    quote!(out.first(self.0); #(out.next(self.#rest);)*)
}
