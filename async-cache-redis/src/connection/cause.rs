//! The texts of causes, and the secrets that they must not show.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

/// The text of a cause. It keeps the client's own error types, and every secret, out of the error
/// chain.
#[derive(Clone)]
pub(crate) struct Cause(Arc<str>);

impl Cause {
    /// A text of this crate, which holds no secret.
    pub(crate) fn ours(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Whether the text contains `what`.
    pub(crate) fn says(&self, what: &str) -> bool {
        self.0.contains(what)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

/// The answer of every server to a wrong password.
const WRONG_PASSWORD: &str = "invalid username-password pair or user is disabled";
/// Passwords that are remembered: several connections may be using different ones.
const MAX_SECRETS: usize = 16;

/// A shorter password may be part of ordinary words. Inside a word it is not hidden: the gap would reveal it, and make
/// the text unreadable.
const SHORT: usize = 4;

/// Hides a secret that is not part of a longer word.
fn hide_word(text: &str, secret: &str) -> String {
    let (mut hidden, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(secret) {
        let (before, behind) = (&rest[..at], &rest[at + secret.len()..]);
        let left = before.chars().next_back().or_else(|| hidden.chars().next_back());
        let joined = |one: Option<char>, other: Option<char>| {
            one.zip(other).is_some_and(|(one, other)| one.is_alphanumeric() && other.is_alphanumeric())
        };
        let inside =
            joined(left, secret.chars().next()) || joined(secret.chars().next_back(), behind.chars().next());
        hidden.push_str(before);
        hidden.push_str(if inside { secret } else { "***" });
        rest = behind;
    }
    hidden.push_str(rest);
    hidden
}

/// The texts that must never be shown. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<Mutex<VecDeque<String>>>);

impl Secrets {
    pub(crate) fn new(password: Option<&str>) -> Self {
        let secrets = Self::default();
        secrets.add(password.unwrap_or_default());
        secrets
    }

    /// Hides a text from now on.
    pub(crate) fn add(&self, secret: &str) {
        let mut secrets = self.0.lock();
        if secret.is_empty() || secrets.iter().any(|known| known == secret) {
            return;
        }
        if secrets.len() == MAX_SECRETS {
            secrets.pop_front();
        }
        secrets.push_back(secret.to_owned());
    }

    fn hide(&self, text: &str) -> String {
        self.0.lock().iter().fold(text.to_owned(), |text, secret| match secret.chars().count() < SHORT {
            true => hide_word(&text, secret),
            false => text.replace(secret.as_str(), "***"),
        })
    }

    /// A cause without secrets, keys or values, from the text of a server or a library.
    pub(crate) fn cause(&self, error: impl fmt::Display) -> Cause {
        const MAX_LEN: usize = 300;
        let mut text = error.to_string();
        // An unknown command is reported with its arguments, and those are keys and values.
        if let Some(at) = text.find(", with args beginning with") {
            text.truncate(at);
        }
        // The fixed answer to a wrong password is kept whole: a gap in it would tell the password.
        text =
            text.split(WRONG_PASSWORD).map(|part| self.hide(part)).collect::<Vec<_>>().join(WRONG_PASSWORD);
        if let Some((at, _)) = text.char_indices().nth(MAX_LEN) {
            text.truncate(at);
            text.push('…');
        }
        Cause::ours(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_show_neither_secrets_nor_arguments() {
        let secrets = Secrets::new(Some("hunter2"));
        assert_eq!(secrets.cause("AUTH hunter2 failed").to_string(), "AUTH *** failed");
        assert_eq!(
            secrets.cause("unknown command 'X', with args beginning with: 'key' 'value'").to_string(),
            "unknown command 'X'"
        );
        assert_eq!(secrets.cause("ü".repeat(1000)).to_string().chars().count(), 301);
    }

    #[test]
    fn a_short_password_leaves_the_words_of_a_text_whole() {
        for (password, text, shown) in [
            ("r", "an error of r", "an error of ***"),
            ("r", "AUTH r: r", "AUTH ***: ***"),
            ("the", "other the 'the'", "other *** '***'"),
            ("rr", "error rr rrr", "error *** rrr"),
            ("-a", "x-a -ab", "x*** -ab"),
        ] {
            assert_eq!(Secrets::new(Some(password)).cause(text).to_string(), shown, "{password}");
        }
    }

    #[test]
    fn passwords_that_are_issued_later_are_hidden_and_the_memory_is_limited() {
        let secrets = Secrets::new(Some("first"));
        for number in 0..MAX_SECRETS {
            secrets.add(&format!("token-{number:02}"));
        }
        assert_eq!(secrets.cause("token-00 token-15").to_string(), "*** ***");
        assert_eq!(secrets.0.lock().len(), MAX_SECRETS);
    }
}
