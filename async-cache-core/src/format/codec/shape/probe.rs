//! The deserializer without data.

use serde::de::value::{Error, U32Deserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use crate::format::codec::shape::Survey;

/// The deserializer without data.
pub(crate) struct Probe<'p> {
    pub(crate) survey: &'p mut Survey,
    /// Whether this is inside a recursive type. Then it reads as little as possible.
    pub(crate) shallow: bool,
}

impl Probe<'_> {
    fn again(&mut self) -> Probe<'_> {
        Probe { survey: &mut *self.survey, shallow: self.shallow }
    }

    fn some<'de, V: Visitor<'de>>(mut self, count: usize, visitor: V) -> Result<V::Value, Error> {
        self.survey.nesting.push("");
        let read = visitor.visit_seq(Elements { probe: self.again(), left: count });
        self.survey.nesting.pop();
        read
    }

    /// Reads the parts of the type `name`.
    fn within<T>(
        mut self,
        name: &'static str,
        read: impl FnOnce(Probe<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.shallow |= self.survey.nesting.contains(&name);
        self.survey.nesting.push(name);
        let result = read(self.again());
        self.survey.nesting.pop();
        result
    }
}

macro_rules! samples {
    ($($name:ident, $visit:ident, $sample:expr;)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.survey.first = false;
            self.survey.note(stringify!($name), &[])?;
            visitor.$visit($sample)
        })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    samples! {
        deserialize_bool, visit_bool, true;
        deserialize_char, visit_char, '1';
        deserialize_str, visit_str, "1";
        deserialize_string, visit_str, "1";
        deserialize_bytes, visit_bytes, &[1; 16];
        deserialize_byte_buf, visit_bytes, &[1; 16];
        deserialize_i8, visit_i8, 1;
        deserialize_i16, visit_i16, 1;
        deserialize_i32, visit_i32, 1;
        deserialize_i64, visit_i64, 1;
        deserialize_i128, visit_i128, 1;
        deserialize_u8, visit_u8, 1;
        deserialize_u16, visit_u16, 1;
        deserialize_u32, visit_u32, 1;
        deserialize_u64, visit_u64, 1;
        deserialize_u128, visit_u128, 1;
        deserialize_f32, visit_f32, 1.0;
        deserialize_f64, visit_f64, 1.0;
        deserialize_identifier, visit_str, "1";
    }

    /// The type asks the format for the next type. Formats without names cannot answer.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        (self.survey.doubtful, self.survey.asks) = (true, true);
        self.survey.note("any", &[])?;
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.survey.first = false;
        self.survey.note("option", &[])?;
        if self.shallow { visitor.visit_none() } else { visitor.visit_some(self.again()) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.survey.note("unit", &[])?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.survey.note_container("unit struct", name, &[])?;
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.survey.note_container("newtype", name, &[])?;
        self.within(name, |probe| visitor.visit_newtype_struct(probe))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.survey.first = false;
        self.survey.note("seq", &[])?;
        let count = usize::from(!self.shallow);
        self.some(count, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.survey.first = false;
        self.survey.note("tuple", &[&len.to_string()])?;
        self.some(len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.survey.note_container("tuple struct", name, &[&len.to_string()])?;
        self.within(name, |probe| probe.some(len, visitor))
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.survey.first = false;
        self.survey.note("map", &[])?;
        let left = usize::from(!self.shallow);
        self.survey.nesting.push("");
        let read = visitor.visit_map(Elements { probe: self.again(), left });
        self.survey.nesting.pop();
        read
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.survey.note_container("struct", name, fields)?;
        self.within(name, |probe| probe.some(fields.len(), visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.survey.note_container("enum", name, variants)?;
        let known = self.survey.enums.entry((name, variants)).or_default();
        let index = if (known.next as usize) < variants.len() {
            known.next += 1;
            known.next - 1
        } else {
            known.finite
        };
        self.survey.open |= (known.next as usize) < variants.len();
        self.survey.note("variant", &[&index.to_string()])?;
        self.within(name, |mut probe| {
            let read = visitor.visit_enum(Variant { probe: probe.again(), index });
            if read.is_ok() {
                probe.survey.enums.entry((name, variants)).or_default().finite = index;
            }
            read
        })
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

struct Elements<'p> {
    probe: Probe<'p>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(self.probe.again()).map(Some)
    }
}

impl<'de> MapAccess<'de> for Elements<'_> {
    type Error = Error;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.probe.again())
    }
}

struct Variant<'p> {
    probe: Probe<'p>,
    index: u32,
}

impl<'de, 'p> EnumAccess<'de> for Variant<'p> {
    type Error = Error;
    type Variant = Probe<'p>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Probe<'p>), Error> {
        let index: U32Deserializer<Error> = self.index.into_deserializer();
        Ok((seed.deserialize(index)?, self.probe))
    }
}

impl<'de> VariantAccess<'de> for Probe<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.survey.note("unit variant", &[])
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        self.survey.note("newtype variant", &[])?;
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.survey.note("tuple variant", &[&len.to_string()])?;
        self.some(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.survey.note("struct variant", fields)?;
        self.some(fields.len(), visitor)
    }
}
