//! Text with placeholders: `team:{team}`.

use proc_macro2::{Ident, Span};
use syn::{Error, Expr, ExprPath, LitStr, Result};

/// A parsed text.
pub(crate) struct Template {
    pub(crate) parts: Vec<Part>,
    pub(crate) span: Span,
}

/// A piece of it.
pub(crate) enum Part {
    /// As it stands.
    Text(String),
    /// An argument, or a field of one.
    Value(Box<Expr>, Ident),
}

impl Template {
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

    /// The arguments it mentions.
    pub(crate) fn mentions(&self) -> impl Iterator<Item = &Ident> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(_, root) => Some(root),
            Part::Text(_) => None,
        })
    }
}

fn placeholder(text: &str, span: Span) -> Result<Part> {
    let wrong = || {
        Error::new(
            span,
            format!(
                "`{{{text}}}` is no placeholder: it names an argument, or a field of one, such as `{{user.id}}`"
            ),
        )
    };
    let literal = LitStr::new(text, span);
    let expr: Expr = literal.parse().map_err(|_| wrong())?;
    let mut inner = &expr;
    loop {
        match inner {
            Expr::Field(field) => inner = &field.base,
            Expr::Path(ExprPath { path, qself: None, .. }) => {
                let root = path.get_ident().ok_or_else(wrong)?.clone();
                return Ok(Part::Value(Box::new(expr.clone()), root));
            }
            _ => return Err(wrong()),
        }
    }
}
