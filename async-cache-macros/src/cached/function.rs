//! The function under the attribute: its arguments, its return type, and whether it can be cached.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Error, Expr, FnArg, GenericArgument, Generics, ImplItemFn, Lifetime, Pat, PathArguments, Receiver,
    Result, ReturnType, Type, TypeImplTrait, TypeReference,
};

/// One argument.
pub(crate) struct Argument {
    pub(crate) name: Ident,
    pub(crate) passing: Passing,
}

/// How it is passed.
pub(crate) enum Passing {
    /// `self`, in one of its forms.
    Receiver(Box<Receiver>),
    /// By value.
    Value(Box<Type>),
    /// As a reference to this type.
    Reference(Box<Type>),
    /// As an `Option` of a reference to this type.
    OptionalReference(Box<Type>),
}

/// The function's return type, which decides the lookup method.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Returns {
    Plain,
    Optional,
    Fallible,
    FallibleOptional,
}

impl Returns {
    pub(crate) fn is_optional(self) -> bool {
        matches!(self, Self::Optional | Self::FallibleOptional)
    }

    pub(crate) fn is_fallible(self) -> bool {
        matches!(self, Self::Fallible | Self::FallibleOptional)
    }
}

/// The arguments, in order, `self` first.
pub(crate) fn arguments(function: &ImplItemFn) -> Result<Vec<Argument>> {
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        let rewritten = match &signature.output {
            ReturnType::Type(_, ty) => inside(ty, "Pin").is_some(),
            ReturnType::Default => false,
        };
        let says = match rewritten {
            true => {
                "the method of a trait cannot be cached: decorate a method of the type itself, and call it in this one"
            }
            false => "only an `async fn` can be cached: loading takes time",
        };
        return Err(Error::new(signature.fn_token.span(), says));
    }
    signature.inputs.iter().map(argument).collect()
}

fn argument(input: &FnArg) -> Result<Argument> {
    match input {
        FnArg::Receiver(receiver) => {
            if receiver.mutability.is_some() && receiver.reference.is_some() {
                return Err(Error::new(
                    receiver.span(),
                    "the load outlives the call: take `&self` and share what changes",
                ));
            }
            let name = Ident::new("self", receiver.self_token.span);
            Ok(Argument { name, passing: Passing::Receiver(Box::new(receiver.clone())) })
        }
        FnArg::Typed(typed) => {
            let name = match &*typed.pat {
                Pat::Ident(pattern) if pattern.subpat.is_none() && pattern.by_ref.is_none() => {
                    pattern.ident.clone()
                }
                other => {
                    return Err(Error::new(other.span(), "a cached function's argument needs a plain name"));
                }
            };
            let passing = passing(&typed.ty, &name)?;
            let (Passing::Value(inner) | Passing::Reference(inner) | Passing::OptionalReference(inner)) =
                &passing
            else {
                unreachable!("a receiver is no typed argument")
            };
            check(inner, |what| match what {
                Flaw::Borrow => format!(
                    "`{name}` borrows inside its type, but the load outlives the call: take an owned value, a plain reference to one, or an `Option` of one"
                ),
                Flaw::ImplTrait => format!(
                    "`{name}` has a type without a name: use a type parameter, which becomes part of the key"
                ),
            })?;
            Ok(Argument { name, passing })
        }
    }
}

fn passing(ty: &Type, name: &Ident) -> Result<Passing> {
    match (ty, inside(ty, "Option")) {
        (Type::Reference(TypeReference { mutability: Some(_), .. }), _)
        | (_, Some(Type::Reference(TypeReference { mutability: Some(_), .. }))) => Err(Error::new(
            ty.span(),
            format!("`{name}` is borrowed mutably, but the load outlives the call: take it by value or `&`"),
        )),
        (Type::Reference(reference), _) => Ok(Passing::Reference(reference.elem.clone())),
        (_, Some(Type::Reference(reference))) => Ok(Passing::OptionalReference(reference.elem.clone())),
        _ => Ok(Passing::Value(Box::new(ty.clone()))),
    }
}

/// The check that the cache holds what the function returns.
pub(crate) fn value_check(function: &ImplItemFn, returns: Returns, krate: &syn::Path) -> Option<TokenStream> {
    let ReturnType::Type(_, output) = &function.sig.output else { return None };
    let name = match returns {
        Returns::Plain => "must_hold",
        Returns::Optional => "must_hold_some",
        Returns::Fallible => "must_hold_ok",
        Returns::FallibleOptional => "must_hold_ok_some",
    };
    let check = Ident::new(name, output.span());
    let ty = quote_spanned!(output.span()=> ::core::marker::PhantomData::<fn() -> #output>);
    Some(quote_spanned!(output.span()=> #krate::decorated::#check(__cache, #ty);))
}

/// The function's return type.
pub(crate) fn returns(function: &ImplItemFn) -> Result<Returns> {
    let ReturnType::Type(_, ty) = &function.sig.output else {
        return Err(Error::new(
            function.sig.span(),
            "there is nothing to cache: the function returns no value",
        ));
    };
    check(ty, |what| match what {
        Flaw::Borrow => "a cached value outlives the call: return an owned value".to_owned(),
        Flaw::ImplTrait => "a cached value is stored: name its type".to_owned(),
    })?;
    Ok(match inside(ty, "Result") {
        Some(value) if inside(value, "Option").is_some() => Returns::FallibleOptional,
        Some(_) => Returns::Fallible,
        None if inside(ty, "Option").is_some() => Returns::Optional,
        None => Returns::Plain,
    })
}

/// The first type argument of a type with this name.
fn inside<'a>(ty: &'a Type, name: &str) -> Option<&'a Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

/// Types that may not occur.
enum Flaw {
    Borrow,
    ImplTrait,
}

fn check(ty: &Type, explain: impl Fn(Flaw) -> String) -> Result<()> {
    #[derive(Default)]
    struct Finder(Option<(proc_macro2::Span, Option<Flaw>)>);

    impl<'a> Visit<'a> for Finder {
        fn visit_lifetime(&mut self, lifetime: &'a Lifetime) {
            if lifetime.ident != "static" {
                self.0.get_or_insert((lifetime.span(), Some(Flaw::Borrow)));
            }
        }

        fn visit_type_reference(&mut self, reference: &'a TypeReference) {
            if reference.lifetime.as_ref().is_none_or(|lifetime| lifetime.ident != "static") {
                self.0.get_or_insert((reference.span(), Some(Flaw::Borrow)));
            }
            visit::visit_type_reference(self, reference);
        }

        fn visit_type_impl_trait(&mut self, unnamed: &'a TypeImplTrait) {
            self.0.get_or_insert((unnamed.span(), Some(Flaw::ImplTrait)));
        }

        // References inside the parentheses of a function type do not matter.
        fn visit_type_bare_fn(&mut self, _: &'a syn::TypeBareFn) {}
    }

    let mut finder = Finder::default();
    finder.visit_type(ty);
    match finder.0 {
        Some((span, Some(flaw))) => Err(Error::new(span, explain(flaw))),
        _ => Ok(()),
    }
}

/// Types cannot be inferred if only the key mentions them.
pub(super) fn turbofish(generics: &Generics) -> TokenStream {
    let names: Vec<&Ident> = generics
        .params
        .iter()
        .filter_map(|parameter| match parameter {
            syn::GenericParam::Type(parameter) => Some(&parameter.ident),
            syn::GenericParam::Const(parameter) => Some(&parameter.ident),
            syn::GenericParam::Lifetime(_) => None,
        })
        .collect();
    if names.is_empty() { TokenStream::new() } else { quote!(::<#(#names),*>) }
}

/// Whether an expression mentions a variable.
pub(super) fn mentions(expr: &Expr, name: &Ident) -> bool {
    struct Finder<'a>(&'a Ident, bool);
    impl<'a> Visit<'a> for Finder<'_> {
        fn visit_ident(&mut self, ident: &'a Ident) {
            self.1 |= ident == self.0;
            visit::visit_ident(self, ident);
        }
    }
    let mut finder = Finder(name, false);
    finder.visit_expr(expr);
    finder.1
}
