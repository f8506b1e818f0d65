//! The item that contains the function. An attribute sees only the function, so this is read from the file.
//!
//! It affects only the wording of errors, and whether `Self::` leads to a function without a receiver. If
//! the file cannot be read, or a macro wrote the function, the context is unknown.

use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{Attribute, Block, ImplItemFn, ItemFn, ItemImpl, ItemTrait, Signature, TraitItemFn};

/// The item that contains a function.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Context {
    /// `impl Trait for Type`.
    TraitImpl { of: String, on: String },
    /// `trait Trait`.
    Trait(String),
    /// `impl Type`.
    Impl,
    /// A module, a block, or an unknown place.
    Elsewhere,
}

impl Context {
    pub(crate) fn of(function: &ImplItemFn) -> Self {
        let file = proc_macro::Span::call_site().local_file();
        let text = file.and_then(|file| std::fs::read_to_string(file).ok());
        let parsed = text.and_then(|text| syn::parse_file(&text).ok());
        let mut search =
            Search { wanted: words(&function.sig, &function.block), at: Self::Elsewhere, found: Vec::new() };
        if let Some(file) = parsed {
            search.visit_file(&file);
        }
        match &search.found[..] {
            [first, rest @ ..] if rest.iter().all(|other| other == first) => first.clone(),
            _ => Self::Elsewhere,
        }
    }
}

/// The contexts of the cached functions in the file that look like the one searched for.
struct Search {
    wanted: String,
    at: Context,
    found: Vec<Context>,
}

impl Search {
    fn look(&mut self, attributes: &[Attribute], signature: &Signature, block: &Block) {
        let is_cached = |attribute: &Attribute| {
            attribute.path().segments.last().is_some_and(|last| last.ident == "cached")
        };
        if attributes.iter().any(is_cached) && words(signature, block) == self.wanted {
            self.found.push(self.at.clone());
        }
    }

    fn within(&mut self, context: Context, visit: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.at, context);
        visit(self);
        self.at = outer;
    }
}

impl<'a> Visit<'a> for Search {
    fn visit_item_impl(&mut self, item: &'a ItemImpl) {
        let context = match &item.trait_ {
            Some((_, path, _)) => Context::TraitImpl {
                of: path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default(),
                on: item.self_ty.to_token_stream().to_string().replace(' ', ""),
            },
            None => Context::Impl,
        };
        self.within(context, |this| visit::visit_item_impl(this, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'a ImplItemFn) {
        self.look(&item.attrs, &item.sig, &item.block);
        self.within(Context::Elsewhere, |this| visit::visit_impl_item_fn(this, item));
    }

    fn visit_item_trait(&mut self, item: &'a ItemTrait) {
        let context = Context::Trait(item.ident.to_string());
        self.within(context, |this| visit::visit_item_trait(this, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'a TraitItemFn) {
        if let Some(block) = &item.default {
            self.look(&item.attrs, &item.sig, block);
        }
        self.within(Context::Elsewhere, |this| visit::visit_trait_item_fn(this, item));
    }

    fn visit_item_fn(&mut self, item: &'a ItemFn) {
        self.look(&item.attrs, &item.sig, &item.block);
        self.within(Context::Elsewhere, |this| visit::visit_item_fn(this, item));
    }
}

fn words(signature: &Signature, block: &Block) -> String {
    format!("{} {}", signature.to_token_stream(), block.to_token_stream())
}
