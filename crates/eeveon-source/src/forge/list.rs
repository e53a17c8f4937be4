//! Lists of which no more is kept than is of use, however long they are.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};

/// The first `MOST` things of a list. The rest is passed over, so that a body of many tiny things does
/// not become many large ones in memory.
pub(super) struct List<T, const MOST: usize> {
    /// What was kept.
    pub(super) items: Vec<T>,
    /// Whether there were more.
    pub(super) cut: bool,
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for List<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keep<T, const MOST: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Keep<T, MOST> {
            type Value = List<T, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut given: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while items.len() < MOST {
                    match given.next_element()? {
                        Some(item) => items.push(item),
                        None => return Ok(List { items, cut: false }),
                    }
                }
                let mut cut = false;
                while given.next_element::<IgnoredAny>()?.is_some() {
                    cut = true;
                }
                Ok(List { items, cut })
            }
        }

        deserializer.deserialize_seq(Keep(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_beginning_of_a_long_list_is_kept() {
        let read = |text: &str| serde_json::from_str::<List<u8, 2>>(text).unwrap();
        for (text, kept, cut) in
            [("[]", 0, false), ("[1]", 1, false), ("[1,2]", 2, false), ("[1,2,[3],{}]", 2, true)]
        {
            let list = read(text);
            assert_eq!((list.items.len(), list.cut), (kept, cut), "{text}");
        }
        assert!(serde_json::from_str::<List<u8, 2>>("[1,2").is_err());
        assert!(serde_json::from_str::<List<u8, 2>>("{}").is_err());
    }
}
