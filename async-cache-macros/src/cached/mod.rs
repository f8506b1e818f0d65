//! `#[cached]`.
//!
//! `arguments` reads what the attribute says, `function` what it stands on, `context` what that stands in,
//! `template` reads placeholders, `key` decides what the key is made of, `expand` writes the code.

mod arguments;
mod context;
mod expand;
mod function;
mod key;
mod template;

pub(crate) use arguments::Arguments;
pub(crate) use expand::expand;
