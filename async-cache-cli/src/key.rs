//! The forms of a KEY, and how bytes are shown.

use async_cache::CacheKey;
use async_cache::key::{Key, KeyWriter};

use crate::args::Which;
use crate::failure::Failure;

/// Reads the keys of the arguments.
pub(crate) fn read(which: &Which) -> Result<Vec<Key>, Failure> {
    let Which { keys, tuple, hex } = which;
    if *tuple {
        for component in keys {
            check_text(component, "a component of the KEY")?;
        }
        return Ok(vec![Key::encode(&Components(keys))?]);
    }
    keys.iter().map(|key| if *hex { of_hex(key) } else { of_text(key) }).collect()
}

/// Reads the only key of the arguments.
pub(crate) fn read_one(which: &Which) -> Result<Key, Failure> {
    let mut keys = read(which)?;
    match (keys.pop(), keys.is_empty()) {
        (Some(key), true) => Ok(key),
        _ => Err(Failure::usage(
            "inspecting: give one KEY; if the arguments are the components of one key, add --tuple",
        )),
    }
}

fn of_text(text: &str) -> Result<Key, Failure> {
    if text.is_empty() {
        return Err(Failure::usage(
            "the KEY is empty: is a variable of your script unset? The empty key is written `--hex ''`",
        ));
    }
    check_text(text, "the KEY")?;
    if let Some(key) = inside_a_name(text) {
        return Err(Failure::usage(format!(
            "`{text}` is the name of a Redis key: the KEY in it is `{key}`. If it really is a KEY, write it with --hex"
        )));
    }
    // The text is encoded already. Only its length is checked.
    Ok(Key::encode(text)?)
}

fn check_text(text: &str, what: &str) -> Result<(), Failure> {
    match text.chars().find(|c| c.is_control()) {
        Some(c) => {
            let c = c.escape_default();
            Err(Failure::usage(format!("{what} contains the control character `{c}`: write it with --hex")))
        }
        None => Ok(()),
    }
}

/// The KEY in `{users:0}V:KEY` or `{users:0}3:V:KEY`.
fn inside_a_name(text: &str) -> Option<&str> {
    let (tag, rest) = text.strip_prefix('{')?.split_once('}')?;
    let (_, partition) = tag.rsplit_once(':')?;
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches(':');
    let is_number = !partition.is_empty() && partition.bytes().all(|b| b.is_ascii_digit());
    let kinds = ["V:", "L:", "W:"];
    is_number.then(|| kinds.iter().find_map(|kind| rest.strip_prefix(kind)))?
}

fn of_hex(digits: &str) -> Result<Key, Failure> {
    let wrong = || {
        Failure::usage(format!(
            "`{digits}` is not hexadecimal: give two digits for each byte, such as `7573`"
        ))
    };
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16);
    let bytes =
        (0..digits.len()).step_by(2).map(byte).collect::<Result<Vec<u8>, _>>().map_err(|_| wrong())?;
    Ok(Key::encode(&bytes)?)
}

/// A compound key.
struct Components<'a>(&'a [String]);

impl CacheKey for Components<'_> {
    fn encode(&self, out: &mut KeyWriter<'_>) {
        for (at, component) in self.0.iter().enumerate() {
            if at == 0 {
                out.first(component);
            } else {
                out.next(component);
            }
        }
    }
}

/// Bytes as text, if they are text.
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes for people: text as it is, everything else escaped.
pub(crate) fn shown(bytes: &[u8]) -> String {
    match text(bytes) {
        Some(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(words: &[&str], tuple: bool, hex: bool) -> Result<Vec<Vec<u8>>, String> {
        let keys = words.iter().map(ToString::to_string).collect();
        let read = read(&Which { keys, tuple, hex }).map_err(|failure| format!("{failure:?}"))?;
        Ok(read.iter().map(|key| key.as_bytes().to_vec()).collect())
    }

    #[test]
    fn a_key_is_what_the_cache_encodes() {
        let encoded = |key: Key| vec![key.as_bytes().to_vec()];
        assert_eq!(keys(&["42"], false, false).unwrap(), encoded(Key::encode(&42_u64).unwrap()));
        let tuple = encoded(Key::encode(&(9_u32, "a:b\\c")).unwrap());
        assert_eq!(keys(&["9", "a:b\\c"], true, false).unwrap(), tuple);
        assert_eq!(keys(&["9:a\\:b\\\\c"], false, false).unwrap(), tuple);
        assert_eq!(keys(&["00ff", ""], false, true).unwrap(), [vec![0, 255], vec![]]);
    }

    #[test]
    fn what_may_be_a_mistake_is_refused() {
        let refused = |word: &str, hex| keys(&[word], false, hex).unwrap_err();
        assert!(refused("", false).contains("empty"));
        assert!(refused("a\nb", false).contains("control character"));
        assert!(refused("{users:0}V:42", false).contains("the KEY in it is `42`"));
        assert!(refused("{users:0}3:V:a:b", false).contains("the KEY in it is `a:b`"));
        assert!(refused("abc", true).contains("hexadecimal"));
        assert!(refused("zz", true).contains("hexadecimal"));
        assert!(refused(&"x".repeat(1025), false).contains("1024"));
        assert!(keys(&["{users}"], false, false).is_ok());
    }
}
