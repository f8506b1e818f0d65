//! The code that replaces the function: the function, its two siblings, and their common body.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, FnArg, ImplItemFn, Pat, Result, Signature};

use super::arguments::Arguments;
use super::context::Context;
use super::function::{self, Argument, Passing, Returns};
use super::key::{self, Named};
use super::template::Template;

pub(crate) fn expand(attribute: &Arguments, function: &ImplItemFn) -> Result<TokenStream> {
    let arguments = function::arguments(function)?;
    let returns = function::returns(function)?;
    key::check(attribute, &arguments)?;
    check_options(attribute, returns)?;
    let context = Context::of(function);
    check_context(&context, &function.sig.ident)?;
    let call = Call { attribute, function, arguments: &arguments, returns, context };

    let (get, refresh) = match returns.is_optional() {
        false => ("get_or_load", "refresh"),
        true => ("get_or_load_optional", "refresh_optional"),
    };
    let name = &function.sig.ident;
    let attributes = &function.attrs;
    let conditions: Vec<&Attribute> =
        function.attrs.iter().filter(|attribute| is_shared(attribute)).collect();
    let visibility = &function.vis;
    let lookup = call.lookup(name, get);
    let reload = call.lookup(&format_ident!("{name}_refresh"), refresh);
    let invalidate = call.invalidate();
    let uncached = call.uncached();
    let place = attribute.key.is_none().then(|| {
        let name = call.place_name();
        quote! {
            #[doc(hidden)]
            #(#conditions)*
            fn #name() {}
        }
    });
    let about_refresh = format!("Loads what [`{name}`](Self::{name}) caches, and replaces it on every node.")
        .replace("Self::", prefix(&arguments));
    let about_invalidate = format!("Drops what [`{name}`](Self::{name}) caches, on every node.")
        .replace("Self::", prefix(&arguments));
    Ok(quote! {
        #(#attributes)*
        #visibility #lookup

        #[doc = #about_refresh]
        #(#conditions)*
        #[allow(dead_code, reason = "comes with the lookup, whether it is called or not")]
        #visibility #reload

        #[doc = #about_invalidate]
        #(#conditions)*
        #[allow(dead_code, reason = "comes with the lookup, whether it is called or not")]
        #visibility #invalidate

        #[doc(hidden)]
        #(#conditions)*
        #uncached

        #place
    })
}

/// Options that a refresh does not have, because it accepts no stale value.
const STALE: &[&str] = &["soft_timeout", "stale_while_revalidate", "stale_on_error"];

fn check_options(attribute: &Arguments, returns: Returns) -> Result<()> {
    let negative = attribute.options.iter().find(|(name, _)| name == "negative_ttl");
    match negative {
        Some((name, _)) if !returns.is_optional() => Err(Error::new(
            name.span(),
            "`negative_ttl` is for absences, and this function returns no `Option`: leave it out",
        )),
        _ => Ok(()),
    }
}

/// The siblings would have to be methods of the trait.
fn check_context(context: &Context, name: &Ident) -> Result<()> {
    match context {
        Context::TraitImpl { of, on } => Err(Error::new(
            name.span(),
            format!(
                "`{name}` cannot be cached in `impl {of} for {on}`, as its siblings `{name}_refresh` and \
                 `{name}_invalidate` are no methods of `{of}`: decorate a method of `impl {on}`, and call it here"
            ),
        )),
        Context::Trait(of) => Err(Error::new(
            name.span(),
            format!(
                "`{name}` cannot be cached in `trait {of}`, as nobody knows whether its future is `Send`: decorate \
                 a method of a type, and call it in the type's `impl {of}`"
            ),
        )),
        Context::Impl | Context::Elsewhere => Ok(()),
    }
}

fn prefix(arguments: &[Argument]) -> &'static str {
    match arguments.first().map(|argument| &argument.passing) {
        Some(Passing::Receiver(_)) => "Self::",
        _ => "",
    }
}

/// Attributes that the siblings need, too.
fn is_shared(attribute: &Attribute) -> bool {
    ["cfg", "allow", "expect", "deprecated"].iter().any(|name| attribute.path().is_ident(name))
}

struct Call<'a> {
    attribute: &'a Arguments,
    function: &'a ImplItemFn,
    arguments: &'a [Argument],
    returns: Returns,
    context: Context,
}

impl Call<'_> {
    /// The original function, under another name.
    fn uncached(&self) -> TokenStream {
        let signature = Signature { ident: self.body_name(), ..self.function.sig.clone() };
        // This counts as a use of an argument that only the attribute uses.
        let used = self.arguments.iter().map(|argument| &argument.name).filter(|name| {
            *name != "self" && (!self.attribute.skip.contains(name) || function::mentions(self.cache(), name))
        });
        let statements = &self.function.block.stmts;
        quote! {
            #signature {
                #(let _ = &#used;)*
                #(#statements)*
            }
        }
    }

    /// The path that leads to a sibling.
    fn path_to(&self, name: &Ident) -> TokenStream {
        if self.is_in_impl() { quote!(Self::#name) } else { quote!(#name) }
    }

    fn is_in_impl(&self) -> bool {
        let receiver = self.arguments.first().map(|argument| &argument.passing);
        matches!(receiver, Some(Passing::Receiver(_))) || self.context == Context::Impl
    }

    /// An item whose path identifies the function's place.
    fn place_name(&self) -> Ident {
        format_ident!("__{}_place", self.function.sig.ident)
    }

    fn body_name(&self) -> Ident {
        format_ident!("__{}_uncached", self.function.sig.ident)
    }

    fn signature(&self, name: &Ident) -> Signature {
        let mut signature = Signature { ident: name.clone(), ..self.function.sig.clone() };
        for input in &mut signature.inputs {
            if let FnArg::Typed(typed) = input
                && let Pat::Ident(pattern) = &mut *typed.pat
            {
                pattern.mutability = None;
            }
        }
        signature
    }

    /// The function and its sibling that refreshes: two lookups by different methods.
    fn lookup(&self, name: &Ident, verb: &str) -> TokenStream {
        let krate = &self.attribute.krate;
        let verb = Ident::new(verb, name.span());
        let (signature, cache, key) = (self.signature(name), self.cache(), self.key());
        let reloads = verb == "refresh" || verb == "refresh_optional";
        let options = self.attribute.options.iter();
        let setters = options
            .filter(|(name, _)| !(reloads && STALE.contains(&name.to_string().as_str())))
            .map(|(name, value)| quote!(.#name(#value)));
        let (text, tags, copies, load) = (self.text_keys(), self.tags(), self.copies(), self.load());
        let finish = self.finish();
        let errors = self.errors();
        let value_type = function::value_check(self.function, self.returns, krate);
        let checks =
            (verb == "get_or_load" || verb == "get_or_load_optional").then(|| self.with_name(key::checks));
        let caller = errors.is_some().then(|| quote!(let __caller = __own.caller();));
        quote! {
            #signature {
                #[allow(unused_imports, reason = "which of them a value needs depends on its type")]
                use #krate::decorated::{
                    Give as _, GiveClone as _, GiveFrom as _, GiveNot as _, GiveOpaque as _, IsKey as _, IsNoKey as _,
                    ShowChain as _, ShowError as _, ShowType as _,
                };
                #errors
                let __outcome = {
                    let __cache = &(#cache);
                    #text
                    #value_type
                    #key
                    #checks
                    let __key = (&#krate::decorated::Probe(__key)).key();
                    #krate::decorated::#verb(__cache, __key, |__options: &mut #krate::StoreOptions| {
                        let _ = &__options;
                        #tags
                        #copies
                        #caller
                        move || #load
                    })
                    #(#setters)*
                    .await
                };
                #finish
            }
        }
    }

    fn errors(&self) -> Option<TokenStream> {
        let krate = &self.attribute.krate;
        let output = match &self.function.sig.output {
            syn::ReturnType::Type(_, ty) if self.returns.is_fallible() => ty,
            _ => return None,
        };
        Some(quote! {
            let __errors = #krate::decorated::errors_of(::core::marker::PhantomData::<fn() -> #output>);
            let mut __own = __errors.own();
        })
    }

    fn cache(&self) -> &Expr {
        &self.attribute.cache
    }

    /// A default key begins with the function's path. So a cache with number keys cannot contain it.
    fn text_keys(&self) -> Option<TokenStream> {
        let (krate, cache) = (&self.attribute.krate, self.cache());
        let none = self.attribute.key.is_none();
        none.then(|| quote_spanned!(cache.span()=> #krate::decorated::must_have_text_keys(__cache);))
    }

    fn key(&self) -> TokenStream {
        self.with_name(key::statements)
    }

    fn with_name(&self, write: fn(&Arguments, &[Argument], &Named<'_>) -> TokenStream) -> TokenStream {
        let signature = &self.function.sig;
        let place = self.place_name();
        let words = format!("{} {}", signature.to_token_stream(), self.function.block.to_token_stream());
        let named = Named {
            name: &signature.ident,
            generics: &signature.generics,
            place: self.path_to(&place),
            place_name: place.to_string(),
            levels: usize::from(self.is_in_impl()),
            digest: digest(&words),
        };
        write(self.attribute, self.arguments, &named)
    }

    fn tags(&self) -> TokenStream {
        let tags = self.attribute.tags.iter().map(Template::formatted);
        quote!(#(*__options = ::core::mem::take(__options).tag(#tags);)*)
    }

    /// The copies of the arguments that the load keeps, because it outlives the call.
    fn copies(&self) -> TokenStream {
        let krate = &self.attribute.krate;
        let copies = self.arguments.iter().map(|argument| {
            let name = &argument.name;
            let (copy, reference) = match &argument.passing {
                Passing::Receiver(receiver) if receiver.reference.is_some() => (quote!(__this), quote!(self)),
                Passing::Receiver(_) => (quote!(__this), quote!(&self)),
                Passing::Value(_) => (quote!(#name), quote!(&#name)),
                Passing::Reference(_) => (quote!(#name), quote!(#name)),
                Passing::OptionalReference(ty) => {
                    return quote! {
                        let #name = ::core::option::Option::map(#name, |__it: &#ty| ::std::borrow::ToOwned::to_owned(__it));
                    };
                }
            };
            let check = quote_spanned!(name.span()=> #krate::decorated::must_be_kept(#reference););
            quote!(#check let #copy = ::std::borrow::ToOwned::to_owned(#reference);)
        });
        quote!(#(#copies)*)
    }

    /// The load, on its copies.
    fn load(&self) -> TokenStream {
        let body = self.body_call(|argument| {
            let name = &argument.name;
            match &argument.passing {
                Passing::Receiver(receiver) if receiver.reference.is_some() => quote!(&__this),
                Passing::Receiver(_) => quote!(__this),
                Passing::Value(_) => quote!(#name),
                Passing::Reference(ty) => quote!(::core::borrow::Borrow::<#ty>::borrow(&#name)),
                Passing::OptionalReference(ty) => quote! {
                    ::core::option::Option::map(#name.as_ref(), |__it| ::core::borrow::Borrow::<#ty>::borrow(__it))
                },
            }
        });
        if self.returns.is_fallible() {
            quote!(async move {
                #body.map_err(|__own| (&&&&&__errors).carry(__own, (&&&__errors).show(), __caller))
            })
        } else {
            quote!(async move { ::core::result::Result::<_, ::core::convert::Infallible>::Ok(#body) })
        }
    }

    /// The value that the caller gets.
    fn finish(&self) -> TokenStream {
        let krate = &self.attribute.krate;
        let around = self.body_call(|argument| {
            let name = &argument.name;
            quote!(#name)
        });
        let output = self.function.sig.output.span();
        let value = if self.returns.is_optional() {
            quote_spanned!(output=> value.map(|value| #krate::decorated::value(&value)))
        } else {
            quote_spanned!(output=> #krate::decorated::value(&value))
        };
        if self.returns.is_fallible() {
            quote! {
                match __outcome {
                    ::core::result::Result::Ok(value) => ::core::result::Result::Ok(#value),
                    ::core::result::Result::Err(__error) => match __own.take() {
                        ::core::option::Option::Some(__own) => ::core::result::Result::Err(__own),
                        ::core::option::Option::None => {
                            match (&&&&&__errors).give(#krate::decorated::or_panic(__error)) {
                                #krate::decorated::Failed::Own(__own) => ::core::result::Result::Err(__own),
                                #krate::decorated::Failed::Around => #around,
                            }
                        }
                    },
                }
            }
        } else {
            quote! {
                match __outcome {
                    ::core::result::Result::Ok(value) => #value,
                    ::core::result::Result::Err(__error) => {
                        #krate::decorated::or_panic(__error);
                        #around
                    }
                }
            }
        }
    }

    fn body_call(&self, pass: impl Fn(&Argument) -> TokenStream) -> TokenStream {
        let name = self.body_name();
        let passed = self.arguments.iter().map(pass);
        let path = self.path_to(&name);
        let turbofish = function::turbofish(&self.function.sig.generics);
        quote!(#path #turbofish (#(#passed),*).await)
    }

    /// The sibling that invalidates. It takes the arguments of the key and of the cache.
    fn invalidate(&self) -> TokenStream {
        let krate = &self.attribute.krate;
        let (cache, text, key) = (self.cache(), self.text_keys(), self.key());
        let mut signature = self.signature(&format_ident!("{}_invalidate", self.function.sig.ident));
        let unused = |name: &Ident| self.attribute.skip.contains(name) && !function::mentions(cache, name);
        signature.inputs = signature
            .inputs
            .into_iter()
            .filter(|input| match input {
                FnArg::Typed(typed) => match &*typed.pat {
                    Pat::Ident(pattern) => !unused(&pattern.ident),
                    _ => true,
                },
                FnArg::Receiver(_) => true,
            })
            .collect();
        signature.output = syn::parse_quote!(-> ::core::result::Result<#krate::Stamp, #krate::Error>);
        quote! {
            #signature {
                let __cache = &(#cache);
                #text
                #key
                #[allow(unused_imports, reason = "which of them it needs depends on the key's type")]
                use #krate::decorated::{IsKey as _, IsNoKey as _};
                let __key = (&#krate::decorated::Probe(__key)).key();
                #krate::decorated::invalidate(__cache, __key).await
            }
        }
    }
}

/// A digest of a text (FNV-1a). No compiler version changes it.
fn digest(text: &str) -> String {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, mix))
}
