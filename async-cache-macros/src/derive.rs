//! `#[derive(CacheKey)]`.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Error, Fields, Path, Result, parse_quote};

use crate::path::{crate_path, default_path};

pub(crate) fn expand(mut item: DeriveInput) -> Result<TokenStream> {
    let krate = &krate(&item)?;
    let parameters: Vec<Ident> =
        item.generics.type_params().map(|parameter| parameter.ident.clone()).collect();
    let clause = item.generics.make_where_clause();
    for parameter in parameters {
        clause.predicates.push(parse_quote!(#parameter: #krate::CacheKey));
    }
    let (encode, as_bytes) = match &item.data {
        Data::Struct(data) => of_struct(krate, &data.fields),
        Data::Enum(data) => (of_enum(data), None),
        Data::Union(data) => {
            return Err(Error::new(
                data.union_token.span,
                "a union cannot be a key: its fields cannot be told apart",
            ));
        }
    };
    let name = &item.ident;
    let (generics, arguments, clause) = item.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #generics #krate::CacheKey for #name #arguments #clause {
            fn encode(&self, out: &mut #krate::key::KeyWriter<'_>) {
                #encode
            }
            #as_bytes
        }
    })
}

/// The path of async-cache: `#[cache_key(crate = PATH)]`.
fn krate(item: &DeriveInput) -> Result<Path> {
    let mut found = None;
    for attribute in item.attrs.iter().filter(|attribute| attribute.path().is_ident("cache_key")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                return Err(meta.error("`cache_key` has one argument: `crate = PATH`"));
            }
            if found.replace(crate_path(meta.input)?).is_some() {
                return Err(meta.error("`crate` is given twice"));
            }
            Ok(())
        })?;
    }
    Ok(found.unwrap_or_else(default_path))
}

/// A single field has no separator, so a newtype costs nothing.
fn of_struct(krate: &Path, fields: &Fields) -> (TokenStream, Option<TokenStream>) {
    let members: Vec<_> = fields.members().collect();
    match &members[..] {
        [] => (quote!(let _ = out;), None),
        [only] => {
            let encode = quote!(#krate::CacheKey::encode(&self.#only, out););
            let as_bytes = quote! {
                fn as_bytes(&self) -> ::core::option::Option<&[u8]> {
                    #krate::CacheKey::as_bytes(&self.#only)
                }
            };
            (encode, Some(as_bytes))
        }
        [first, rest @ ..] => (quote!(out.first(&self.#first); #(out.next(&self.#rest);)*), None),
    }
}

/// The variant's name determines the number of components that follow, so the encoding stays injective.
fn of_enum(data: &syn::DataEnum) -> TokenStream {
    let arms = data.variants.iter().map(|variant| {
        let name = &variant.ident;
        let text = name.to_string();
        let text = text.trim_start_matches("r#");
        let members: Vec<_> = variant.fields.members().collect();
        let bound: Vec<Ident> = (0..members.len()).map(|at| format_ident!("field_{at}")).collect();
        quote!(Self::#name { #(#members: #bound),* } => { out.str(#text); #(out.next(#bound);)* })
    });
    if data.variants.is_empty() {
        return quote!(let _ = out; match *self {});
    }
    quote!(match self { #(#arms)* })
}
