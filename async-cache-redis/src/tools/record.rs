//! The record of a namespace: what all its nodes have in common.

use async_cache_core::frame::FORMAT_VERSION;

/// The record that Redis has of a namespace: `async-cache/<format> <codec> <schema>;partitions=<n>`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The version of the storage format.
    pub format: u8,
    /// The name of the codec.
    pub codec: String,
    /// The name of the value's type, or the name given to `schema`.
    pub schema: String,
    /// The number of partitions.
    pub partitions: u16,
    /// What a node says of itself: the text without the partitions.
    pub(super) of_node: String,
}

impl Record {
    /// Reads the text.
    ///
    /// # Errors
    ///
    /// The reason why this version cannot use the namespace.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let parts = || {
            let (of_node, partitions) = text.rsplit_once(";partitions=")?;
            let partitions = partitions.parse().ok().filter(|count| (1..=1024).contains(count))?;
            let (format, rest) = of_node.strip_prefix("async-cache/")?.split_once(' ')?;
            let (codec, schema) = rest.split_once(' ')?;
            let (codec, schema, of_node) = (codec.to_owned(), schema.to_owned(), of_node.to_owned());
            Some(Self { format: format.parse().ok()?, codec, schema, partitions, of_node })
        };
        let record = parts().ok_or_else(|| format!("its record `{text}` was not written by async-cache"))?;
        if record.format != FORMAT_VERSION {
            return Err(format!(
                "its nodes use version {} of the storage format, and this program uses version {FORMAT_VERSION}: \
                 use the program of the version that the nodes have",
                record.format
            ));
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_other_texts_are_refused() {
        let text =
            format!("async-cache/{FORMAT_VERSION} bincode-2 ([u8; 4], alloc::string::String);partitions=3");
        let record = Record::parse(&text).unwrap();
        assert_eq!((&*record.codec, &*record.schema), ("bincode-2", "([u8; 4], alloc::string::String)"));
        assert_eq!(format!("{};partitions={}", record.of_node, record.partitions), text);
        for junk in ["", "hello", "async-cache/2 x y", "async-cache/x y z;partitions=1", "a b c;partitions=0"]
        {
            assert!(Record::parse(junk).unwrap_err().contains("not written by async-cache"), "{junk}");
        }
        let other = text.replace(&format!("/{FORMAT_VERSION}"), "/250");
        assert!(Record::parse(&other).unwrap_err().contains("version 250"));
    }
}
