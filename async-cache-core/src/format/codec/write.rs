//! A serializer that refuses values that could not be read back: values that nest too deep, and values that the
//! format would turn into other values.

use std::fmt;

use serde::{Serialize, Serializer, ser};

use crate::format::codec::{MAX_DEPTH, TOO_DEEP};

/// The values that a format cannot store. Writing one is an error, because reading it back would return another
/// value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    left: usize,
    /// Fields have positions, not names. A field that is left out moves all fields after it.
    positional: bool,
    /// `Some(None)` and `Some(())` are stored like `None`.
    null_is_none: bool,
    /// NaN and infinities cannot be stored.
    finite: bool,
    /// The value is directly inside a `Some`.
    inside_some: bool,
}

impl Rules {
    const NONE: Self =
        Self { left: MAX_DEPTH, positional: false, null_is_none: false, finite: false, inside_some: false };
    /// The rules of bincode and postcard.
    pub(crate) const POSITIONAL: Self = Self { positional: true, ..Self::NONE };
    /// The rules of MessagePack.
    #[cfg(feature = "msgpack")]
    pub(crate) const NAMED: Self = Self { null_is_none: true, ..Self::NONE };
    /// The rules of JSON.
    #[cfg(feature = "json")]
    pub(crate) const JSON: Self = Self { null_is_none: true, finite: true, ..Self::NONE };

    fn below<E: ser::Error>(self, levels: usize) -> Result<Self, E> {
        let left = self.left.checked_sub(levels).ok_or_else(|| ser::Error::custom(TOO_DEEP))?;
        Ok(Self { left, inside_some: false, ..self })
    }
}

/// A value, and the rules by which it is written.
pub(crate) struct Ruled<'a, T: ?Sized>(pub(crate) &'a T, pub(crate) Rules);

impl<T: Serialize + ?Sized> Serialize for Ruled<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Writer { inner: serializer, rules: self.1 })
    }
}

/// A serializer or a part of one, and the rules for the values inside it.
struct Writer<S> {
    inner: S,
    rules: Rules,
}

macro_rules! plain {
    ($($name:ident: $type:ty),*) => {
        $(fn $name(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$name(value)
        })*
    };
}

/// The containers, each with the number of levels by which its values are deeper.
macro_rules! opens {
    ($($levels:literal, $name:ident($($arg:ident: $type:ty),*) -> $part:ident;)*) => {
        $(fn $name(self, $($arg: $type),*) -> Result<Self::$part, S::Error> {
            let rules = self.rules.below($levels)?;
            Ok(Writer { inner: self.inner.$name($($arg),*)?, rules })
        })*
    };
}

impl<S: Serializer> Writer<S> {
    fn check_finite(&self, finite: bool) -> Result<(), S::Error> {
        if self.rules.finite && !finite {
            return Err(ser::Error::custom("an infinite number or NaN, which JSON cannot represent"));
        }
        Ok(())
    }

    fn check_null(&self) -> Result<(), S::Error> {
        if self.rules.null_is_none && self.rules.inside_some {
            return Err(ser::Error::custom(
                "a `Some(None)` or `Some(())`, which this format reads back as `None`",
            ));
        }
        Ok(())
    }
}

impl<S: Serializer> Serializer for Writer<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Writer<S::SerializeSeq>;
    type SerializeTuple = Writer<S::SerializeTuple>;
    type SerializeTupleStruct = Writer<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Writer<S::SerializeTupleVariant>;
    type SerializeMap = Writer<S::SerializeMap>;
    type SerializeStruct = Writer<S::SerializeStruct>;
    type SerializeStructVariant = Writer<S::SerializeStructVariant>;

    plain! {
        serialize_bool: bool, serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        self.check_finite(value.is_finite())?;
        self.inner.serialize_f32(value)
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        self.check_finite(value.is_finite())?;
        self.inner.serialize_f64(value)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.check_null()?;
        self.inner.serialize_none()
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.check_null()?;
        self.inner.serialize_unit()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.check_null()?;
        self.inner.serialize_unit_struct(name)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let rules = Rules { inside_some: true, ..self.rules.below(1)? };
        self.inner.serialize_some(&Ruled(value, rules))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let rules = Rules { inside_some: self.rules.inside_some, ..self.rules.below(1)? };
        self.inner.serialize_newtype_struct(name, &Ruled(value, rules))
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.rules.below(1)?;
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let rules = self.rules.below(1)?;
        self.inner.serialize_newtype_variant(name, index, variant, &Ruled(value, rules))
    }

    opens! {
        1, serialize_seq(len: Option<usize>) -> SerializeSeq;
        1, serialize_tuple(len: usize) -> SerializeTuple;
        1, serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct;
        1, serialize_map(len: Option<usize>) -> SerializeMap;
        1, serialize_struct(name: &'static str, len: usize) -> SerializeStruct;
        2, serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, len: usize) -> SerializeTupleVariant;
        2, serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, len: usize) -> SerializeStructVariant;
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! elements {
    ($($part:ident, $method:ident;)*) => {
        $(impl<S: ser::$part> ser::$part for Writer<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
                self.inner.$method(&Ruled(value, self.rules))
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        })*
    };
}

elements! {
    SerializeSeq, serialize_element;
    SerializeTuple, serialize_element;
    SerializeTupleStruct, serialize_field;
    SerializeTupleVariant, serialize_field;
}

impl<S: ser::SerializeMap> ser::SerializeMap for Writer<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), S::Error> {
        self.inner.serialize_key(&Ruled(key, self.rules))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.inner.serialize_value(&Ruled(value, self.rules))
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.inner.end()
    }
}

macro_rules! fields {
    ($($part:ident),*) => {
        $(impl<S: ser::$part> ser::$part for Writer<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), S::Error> {
                self.inner.serialize_field(name, &Ruled(value, self.rules))
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), S::Error> {
                if self.rules.positional {
                    let message = format!(
                        "field `{name}` is left out (`skip_serializing_if`), and the field after it would be read in its place"
                    );
                    return Err(ser::Error::custom(message));
                }
                self.inner.skip_field(name)
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        })*
    };
}

fields!(SerializeStruct, SerializeStructVariant);
