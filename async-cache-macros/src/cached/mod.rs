//! `#[cached]`.
//!
//! `arguments` parses the attribute, `function` the function under it, `context` the item around that.
//! `template` parses placeholders, `key` builds the key, `expand` writes the code.

mod arguments;
mod context;
mod expand;
mod function;
mod key;
mod template;

pub(crate) use arguments::Arguments;
pub(crate) use expand::expand;
