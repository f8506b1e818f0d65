//! Text with placeholders: `team:{team}`.

use proc_macro2::{Ident, Literal, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{Error, Expr, Lit, LitStr, Result};

/// A parsed text.
pub(crate) struct Template {
    pub(crate) parts: Vec<Part>,
    pub(crate) span: Span,
}

/// A piece of it.
pub(crate) enum Part {
    /// Literal text.
    Text(String),
    /// An argument, or an expression on one.
    Value(Box<Expr>),
}

impl Template {
    /// The expression that makes the text.
    pub(crate) fn formatted(&self) -> TokenStream {
        let mut format = String::new();
        let mut values = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => format.push_str(&text.replace('{', "{{").replace('}', "}}")),
                Part::Value(value) => {
                    format.push_str("{}");
                    values.push(value);
                }
            }
        }
        quote!(::std::format!(#format, #(#values),*))
    }

    pub(crate) fn parse(text: &LitStr) -> Result<Self> {
        let (span, value) = (text.span(), text.value());
        let wrong = |what: &str| {
            Error::new(span, format!("{what}: placeholders look like `{{id}}`, and braces are doubled"))
        };
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = value.as_str();
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(behind) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = behind;
                continue;
            }
            if brace == "}" {
                return Err(wrong("`}` without `{`"));
            }
            let end = rest.find('}').ok_or_else(|| wrong("`{` without `}`"))?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(placeholder(&rest[..end], span)?);
            rest = &rest[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        if parts.is_empty() {
            return Err(Error::new(span, "the text is empty"));
        }
        Ok(Self { parts, span })
    }

    /// The first names of its placeholders, which must be arguments.
    pub(crate) fn roots(&self) -> Vec<Ident> {
        let roots = self.parts.iter().filter_map(|part| match part {
            Part::Value(value) => root(value).cloned(),
            Part::Text(_) => None,
        });
        roots.collect()
    }

    /// The names that the text mentions.
    pub(crate) fn mentions(&self) -> Vec<Ident> {
        let values = self.parts.iter().filter_map(|part| match part {
            Part::Value(value) => Some(names_in(value.to_token_stream())),
            Part::Text(_) => None,
        });
        values.flatten().collect()
    }
}

/// The first name in a chain of fields and calls.
fn root(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Field(field) => root(&field.base),
        Expr::MethodCall(call) => root(&call.receiver),
        Expr::Index(index) => root(&index.expr),
        Expr::Reference(reference) => root(&reference.expr),
        Expr::Paren(inner) => root(&inner.expr),
        Expr::Path(path) => path.path.get_ident(),
        _ => None,
    }
}

fn placeholder(text: &str, span: Span) -> Result<Part> {
    let literal = LitStr::new(text, span);
    let expr: Option<Expr> = literal.parse().ok();
    // `{:?}`, `{}` and `{0}` belong to `format!`, and are no values here.
    match expr.filter(|expr| !names_in(expr.to_token_stream()).is_empty()) {
        Some(expr) => Ok(Part::Value(Box::new(expr))),
        None => Err(Error::new(
            span,
            format!(
                "`{{{text}}}` is no placeholder: it names an argument, or is made of one, such as `{{user.id}}`"
            ),
        )),
    }
}

/// The names of variables in an expression, and in the texts of its macros. Names of fields, methods and paths do not
/// count.
pub(crate) fn names_in(tokens: TokenStream) -> Vec<Ident> {
    let mut names = Vec::new();
    let mut before = [None, None];
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let next = match tokens.peek() {
            Some(TokenTree::Punct(punct)) => Some(punct.as_char()),
            _ => None,
        };
        match &token {
            TokenTree::Ident(name) => {
                // In a range the two dots precede a variable.
                let member = before[1] == Some('.') && before[0] != Some('.');
                let path = before == [Some(':'), Some(':')] || next == Some('!');
                if !member && !path {
                    names.push(name.clone());
                }
            }
            TokenTree::Group(group) => names.extend(names_in(group.stream())),
            TokenTree::Literal(literal) => names.extend(names_in_text(literal)),
            TokenTree::Punct(_) => {}
        }
        let last = if let TokenTree::Punct(punct) = &token { Some(punct.as_char()) } else { None };
        before = [before[1], last];
    }
    names
}

/// The names that `format!` would capture: those in single braces.
fn names_in_text(literal: &Literal) -> Vec<Ident> {
    let Ok(Lit::Str(text)) = syn::parse2::<Lit>(TokenTree::from(literal.clone()).into()) else {
        return Vec::new();
    };
    let text = text.value().replace("{{", "");
    let inside = text.split('{').skip(1).filter_map(|part| part.split(['}', ':']).next());
    inside
        .filter_map(|name| syn::parse_str::<Ident>(name).ok())
        .map(|name| Ident::new(&name.to_string(), literal.span()))
        .collect()
}
