//! The text of a script, and the commands that name it.

use redis::{Arg, Cmd, cmd};

/// A script: its text, and the hash by which EVALSHA names it.
pub(crate) struct Script {
    text: String,
    hash: String,
}

impl Script {
    /// A script without the lines of its text that are comments. They would be half of what every connection sends.
    ///
    /// No string of the scripts has several lines, so no line of a string is taken for a comment.
    pub(super) fn new(code: &str) -> Self {
        let lines =
            code.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("--"));
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Self { text, hash }
    }

    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }

    pub(crate) fn load(&self) -> Cmd {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(&self.text);
        load
    }

    /// A call by EVALSHA, changed to one that brings the text.
    pub(crate) fn by_text(&self, call: &Cmd) -> Cmd {
        let mut eval = cmd("EVAL");
        eval.arg(&self.text);
        // Behind the command and the hash.
        for arg in call.args_iter().skip(2) {
            if let Arg::Simple(arg) = arg {
                eval.arg(arg);
            }
        }
        eval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_no_lines_that_are_comments() {
        let script = Script::new("-- what it does\n\nlocal a = 1 -- one\n  -- why\n  return a\n");
        assert_eq!(script.text, "local a = 1 -- one\n  return a\n");
        let packed = |cmd: &Cmd| String::from_utf8(cmd.get_packed_command()).unwrap();
        assert!(packed(&script.load()).ends_with(&format!("$4\r\nLOAD\r\n$30\r\n{}\r\n", script.text)));
        let mut call = cmd("EVALSHA");
        call.arg(script.hash()).arg(1).arg("k").arg("");
        let expected =
            format!("*5\r\n$4\r\nEVAL\r\n$30\r\n{}\r\n$1\r\n1\r\n$1\r\nk\r\n$0\r\n\r\n", script.text);
        assert_eq!(packed(&script.by_text(&call)), expected);
    }
}
