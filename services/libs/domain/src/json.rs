//! What JSON Waystation lets through: it is stored and forwarded byte for byte, so it is judged once, at the door.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Deepest nesting of objects and arrays.
pub const MAX_JSON_DEPTH: usize = 32;
/// Largest `data` of a message or event, in bytes.
pub const MAX_DATA_BYTES: usize = 192 * 1024;

/// Why a document is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// More than 192 KiB.
    #[error("must have at most {MAX_DATA_BYTES} bytes")]
    TooLarge,
    /// Not an object.
    #[error("must be a JSON object")]
    NotAnObject,
    /// Malformed, too deep, or with a repeated key.
    #[error("is not acceptable JSON: {0}")]
    Malformed(String),
}

/// Checks the `data` of a message or event.
///
/// # Errors
/// If it is larger than 192 KiB, no object, nested deeper than 32, holds a key twice, an unpaired
/// surrogate or a NUL character, or is no JSON at all.
pub fn check_object(data: &[u8]) -> Result<(), JsonError> {
    if data.len() > MAX_DATA_BYTES {
        return Err(JsonError::TooLarge);
    }
    if data.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
        return Err(JsonError::NotAnObject);
    }
    check_document(data)
}

/// Checks any document for depth, repeated keys, surrogates and NUL.
///
/// # Errors
/// As [`check_object`], without its size and kind.
pub fn check_document(text: &[u8]) -> Result<(), JsonError> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let checked = Value { depth: 0 }.deserialize(&mut reader).and_then(|()| reader.end());
    checked.map_err(|error| JsonError::Malformed(error.to_string()))
}

/// Visits a value and keeps nothing of it.
#[derive(Clone, Copy)]
struct Value {
    depth: usize,
}

impl Value {
    fn deeper<E: serde::de::Error>(self) -> Result<Value, E> {
        if self.depth == MAX_JSON_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_JSON_DEPTH}")));
        }
        Ok(Value { depth: self.depth + 1 })
    }
}

fn text_without_nul<E: serde::de::Error>(text: &str) -> Result<(), E> {
    if text.contains('\0') { Err(E::custom("holds a NUL character")) } else { Ok(()) }
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        text_without_nul(text)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut keys = Keys::default();
        while let Some(key) = entries.next_key::<std::borrow::Cow<'de, str>>()? {
            text_without_nul(&key)?;
            if !keys.insert(key.into_owned()) {
                return Err(A::Error::custom("a key stands twice in one object"));
            }
            entries.next_value_seed(inner)?;
        }
        Ok(())
    }
}

/// Keys of one object: few are compared one by one, many are hashed.
#[derive(Default)]
struct Keys {
    few: Vec<String>,
    many: HashSet<String>,
}

impl Keys {
    const FEW: usize = 16;

    fn insert(&mut self, key: String) -> bool {
        if !self.many.is_empty() {
            return self.many.insert(key);
        }
        if self.few.contains(&key) {
            return false;
        }
        self.few.push(key);
        if self.few.len() > Self::FEW {
            self.many.extend(self.few.drain(..));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_objects_pass() {
        for good in [r#"{}"#, r#" {"a":[1,-2.5e3,null,true,"x\u00e4\ud83d\ude00"],"b":{"a":1}}"#] {
            assert_eq!(check_object(good.as_bytes()), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(33), "}".repeat(33));
        let bad = [
            r#"{"a":1,"a":2}"#,
            r#"{"a":NaN}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\u0000"}"#,
            r#"{"a":1} x"#,
            r#"{"a":"#,
            r#"{"a":01}"#,
            &deep,
        ];
        for bad in bad {
            assert!(matches!(check_object(bad.as_bytes()), Err(JsonError::Malformed(_))), "{bad}");
        }
        assert!(matches!(check_object(b"{\"a\":\"\xff\"}"), Err(JsonError::Malformed(_))));
        assert_eq!(check_object(b"[1]"), Err(JsonError::NotAnObject));
        assert_eq!(check_object(b""), Err(JsonError::NotAnObject));
        assert_eq!(check_object(&vec![b' '; MAX_DATA_BYTES + 1]), Err(JsonError::TooLarge));
    }

    #[test]
    fn repeated_keys_are_found_among_many() {
        let many: Vec<String> = (0..100).map(|n| format!("\"k{n}\":{n}")).collect();
        assert_eq!(check_object(format!("{{{}}}", many.join(",")).as_bytes()), Ok(()));
        let repeated = format!("{{{},\"k3\":0}}", many.join(","));
        assert!(check_object(repeated.as_bytes()).is_err());
    }
}
