//! Reads the messages of `pgoutput`, version 1 of its protocol. Pure: bytes in, a message out.
//!
//! <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>

use std::fmt;

/// A position in the write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Lsn(pub(crate) u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// A transaction that was committed at this time, in microseconds since 2000.
    Begin {
        xid: u32,
        committed: i64,
    },
    /// The end of the transaction. The next one begins at `end` or behind it.
    Commit {
        end: Lsn,
    },
    Relation(Relation),
    Row(RowMessage<'a>),
    Truncate {
        relations: Vec<u32>,
    },
    /// A message that says nothing of rows.
    Other,
}

/// What happened to a row. TRUNCATE is not among them: the reader invalidates the namespace without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RowKind {
    /// It is new.
    Insert,
    /// It was changed.
    Update,
    /// It is gone.
    Delete,
}

/// A changed row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RowMessage<'a> {
    /// The id of its table.
    pub(crate) relation: u32,
    pub(crate) kind: RowKind,
    /// The row before a DELETE, and before an UPDATE that changed the replica identity, or if all columns are part of it.
    pub(crate) old: Option<OldTuple<'a>>,
    pub(crate) new: Option<Tuple<'a>>,
}

/// A table, as it was at the time of the changes behind this message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) id: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The object id of its type.
    pub(crate) type_id: u32,
    /// Whether it belongs to the replica identity.
    pub(crate) is_identity: bool,
}

/// The values of a row, in the order of the table's columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tuple<'a>(pub(crate) Vec<Cell<'a>>);

/// A row before its change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OldTuple<'a> {
    /// Only the columns of the replica identity are meant. The others are sent as NULL, whatever they were.
    Identity(Tuple<'a>),
    /// All columns.
    Whole(Tuple<'a>),
}

/// A value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell<'a> {
    Null,
    /// It is stored outside of the row, the update did not change it, and so it was not sent.
    Unchanged,
    Text(&'a str),
}

/// A message that this version cannot read. It must not be skipped: it may be a change.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("a message ends too early")]
    Short,
    #[error("a message has bytes behind its end")]
    Long,
    #[error("a text is not UTF-8")]
    NotUtf8,
    #[error("`{}` is no message, tuple or value of version 1 of the protocol", .0.escape_ascii())]
    Unknown(u8),
}

type Read<T> = Result<T, Malformed>;

/// Reads one message.
pub(crate) fn read(message: &[u8]) -> Read<Message<'_>> {
    let mut bytes = Bytes(message);
    let message = match bytes.byte()? {
        b'B' => {
            let _final_lsn = bytes.long()?;
            let committed = bytes.long()?.cast_signed();
            Message::Begin { xid: bytes.int()?, committed }
        }
        b'C' => {
            let (_flags, _commit_lsn) = (bytes.byte()?, bytes.long()?);
            let end = Lsn(bytes.long()?);
            let _committed = bytes.long()?;
            Message::Commit { end }
        }
        b'R' => Message::Relation(bytes.relation()?),
        b'I' => Message::Row(bytes.row(RowKind::Insert)?),
        b'U' => Message::Row(bytes.row(RowKind::Update)?),
        b'D' => Message::Row(bytes.row(RowKind::Delete)?),
        b'T' => {
            let (count, _options) = (bytes.int()?, bytes.byte()?);
            Message::Truncate { relations: (0..count).map(|_| bytes.int()).collect::<Read<_>>()? }
        }
        // The origin of a transaction, a type, a message of `pg_logical_emit_message`.
        b'O' | b'Y' | b'M' => return Ok(Message::Other),
        other => return Err(Malformed::Unknown(other)),
    };
    if bytes.0.is_empty() { Ok(message) } else { Err(Malformed::Long) }
}

/// The bytes that are left.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(count).ok_or(Malformed::Short)?;
        self.0 = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (taken, left) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = left;
        Ok(*taken)
    }

    fn byte(&mut self) -> Read<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn short(&mut self) -> Read<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn int(&mut self) -> Read<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn long(&mut self) -> Read<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A text that ends with a zero byte.
    fn name(&mut self) -> Read<String> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Malformed::Short)?;
        let text = self.take(end)?;
        let _zero = self.byte()?;
        std::str::from_utf8(text).map(ToOwned::to_owned).map_err(|_| Malformed::NotUtf8)
    }

    fn relation(&mut self) -> Read<Relation> {
        let (id, schema, name) = (self.int()?, self.name()?, self.name()?);
        // The schema of the system's tables is sent as an empty text.
        let schema = if schema.is_empty() { "pg_catalog".to_owned() } else { schema };
        let (_identity, count) = (self.byte()?, self.short()?);
        let columns = (0..count).map(|_| self.column()).collect::<Read<_>>()?;
        Ok(Relation { id, schema, name, columns })
    }

    fn column(&mut self) -> Read<Column> {
        let (flags, name, type_id) = (self.byte()?, self.name()?, self.int()?);
        let _modifier = self.int()?;
        Ok(Column { name, type_id, is_identity: flags & 1 == 1 })
    }

    fn row(&mut self, kind: RowKind) -> Read<RowMessage<'a>> {
        let mut row = RowMessage { relation: self.int()?, kind, old: None, new: None };
        let mut part = self.byte()?;
        if kind != RowKind::Insert && part != b'N' {
            row.old = Some(self.old_tuple(part)?);
            if kind == RowKind::Delete {
                return Ok(row);
            }
            part = self.byte()?;
        }
        if kind == RowKind::Delete || part != b'N' {
            return Err(Malformed::Unknown(part));
        }
        row.new = Some(self.tuple()?);
        Ok(row)
    }

    fn old_tuple(&mut self, part: u8) -> Read<OldTuple<'a>> {
        match part {
            b'K' => self.tuple().map(OldTuple::Identity),
            b'O' => self.tuple().map(OldTuple::Whole),
            other => Err(Malformed::Unknown(other)),
        }
    }

    fn tuple(&mut self) -> Read<Tuple<'a>> {
        let count = self.short()?;
        (0..count).map(|_| self.cell()).collect::<Read<_>>().map(Tuple)
    }

    fn cell(&mut self) -> Read<Cell<'a>> {
        match self.byte()? {
            b'n' => Ok(Cell::Null),
            b'u' => Ok(Cell::Unchanged),
            b't' => {
                let length = self.int()? as usize;
                let text = std::str::from_utf8(self.take(length)?).map_err(|_| Malformed::NotUtf8)?;
                Ok(Cell::Text(text))
            }
            other => Err(Malformed::Unknown(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages that PostgreSQL 15 sent for `users (id bigint primary key, name text, team int, ok bool)`.
    const RELATION: &str = "52000040007075626c6963007573657273006400040169640000000014ffffffff006e616d650000000019ffffffff\
                            007465616d0000000017ffffffff006f6b0000000010ffffffff";
    const BEGIN: &str = "42000000000152891000030468e4d1ec06000002d6";
    const COMMIT: &str = "43000000000001528910000000000152894000030468e4d1ec06";
    const INSERT: &str = "49000040004e0004740000000131740000000161740000000131740000000174";
    const UPDATE: &str =
        "550000400 04b00047400000001326e6e6e4e0004740000000135740000000162740000000132740000000166";
    const DELETE: &str = "44000040004b00047400000001316e6e6e";
    const TRUNCATE: &str = "54000000010000004000";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect()
    }

    #[test]
    fn the_messages_of_a_server_are_read() {
        assert_eq!(read(&bytes(BEGIN)), Ok(Message::Begin { xid: 726, committed: 0x0003_0468_e4d1_ec06 }));
        assert_eq!(read(&bytes(COMMIT)), Ok(Message::Commit { end: Lsn(0x0152_8940) }));
        let relation = bytes(RELATION);
        let Ok(Message::Relation(relation)) = read(&relation) else { panic!("a relation") };
        assert_eq!(
            (relation.id, relation.schema.as_str(), relation.name.as_str()),
            (0x4000, "public", "users")
        );
        let columns: Vec<_> =
            relation.columns.iter().map(|c| (c.name.as_str(), c.type_id, c.is_identity)).collect();
        assert_eq!(columns, [("id", 20, true), ("name", 25, false), ("team", 23, false), ("ok", 16, false)]);
        let text = |texts: &[&'static str]| Tuple(texts.iter().map(|text| Cell::Text(text)).collect());
        let row = |kind, old, new| Ok(Message::Row(RowMessage { relation: 0x4000, kind, old, new }));
        let old = |key| OldTuple::Identity(Tuple(vec![Cell::Text(key), Cell::Null, Cell::Null, Cell::Null]));
        assert_eq!(read(&bytes(INSERT)), row(RowKind::Insert, None, Some(text(&["1", "a", "1", "t"]))));
        let new = text(&["5", "b", "2", "f"]);
        assert_eq!(read(&bytes(UPDATE)), row(RowKind::Update, Some(old("2")), Some(new)));
        assert_eq!(read(&bytes(DELETE)), row(RowKind::Delete, Some(old("1")), None));
        assert_eq!(read(&bytes(TRUNCATE)), Ok(Message::Truncate { relations: vec![0x4000] }));
    }

    #[test]
    fn whole_old_rows_and_values_that_were_not_sent_are_told_apart() {
        let message = b"U\0\0\0\x07O\0\x02t\0\0\0\x011nN\0\x02t\0\0\0\x011u";
        let old = Some(OldTuple::Whole(Tuple(vec![Cell::Text("1"), Cell::Null])));
        let new = Some(Tuple(vec![Cell::Text("1"), Cell::Unchanged]));
        assert_eq!(
            read(message),
            Ok(Message::Row(RowMessage { relation: 7, kind: RowKind::Update, old, new }))
        );
        assert_eq!(read(b"O\0\0\0\0\0\0\0\x01node\0"), Ok(Message::Other));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_never_skipped() {
        for whole in [BEGIN, COMMIT, RELATION, INSERT, UPDATE, DELETE, TRUNCATE] {
            let whole = bytes(whole);
            for length in 0..whole.len() {
                assert_eq!(read(&whole[..length]), Err(Malformed::Short), "{length} bytes of {whole:?}");
            }
            let longer: Vec<u8> = whole.into_iter().chain([0]).collect();
            assert_eq!(read(&longer), Err(Malformed::Long));
        }
        assert_eq!(read(b"S"), Err(Malformed::Unknown(b'S')));
        assert_eq!(read(b"I\0\0\0\x01X"), Err(Malformed::Unknown(b'X')));
        assert_eq!(read(b"I\0\0\0\x01K\0\0"), Err(Malformed::Unknown(b'K')), "an INSERT has no old row");
        assert_eq!(read(b"D\0\0\0\x01N\0\0"), Err(Malformed::Unknown(b'N')), "a DELETE has no new row");
        assert_eq!(read(b"I\0\0\0\x01N\0\x01b\0\0\0\0"), Err(Malformed::Unknown(b'b')));
        assert_eq!(read(b"I\0\0\0\x01N\0\x01t\0\0\0\x01\xff"), Err(Malformed::NotUtf8));
        assert_eq!(
            Malformed::Unknown(0).to_string(),
            "`\\x00` is no message, tuple or value of version 1 of the protocol"
        );
    }

    #[test]
    fn positions_are_written_as_the_server_writes_them() {
        assert_eq!(Lsn(0x16_B374_D848).to_string(), "16/B374D848");
        assert_eq!(Lsn(0x0152_8940).to_string(), "0/1528940");
    }
}
