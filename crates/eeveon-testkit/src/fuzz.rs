//! Inputs of fuzz targets: seeds that people can read, and random bytes that still mean something.

/// Spells `input` out. Nothing but ASCII is taken as it stands: that is a seed, written by a person.
/// In anything else every byte stands for a word of `dictionary`, as random text would be refused at
/// its first character, and nothing behind that would ever be tried.
pub fn spell<W: AsRef<[u8]>>(input: &[u8], dictionary: &[W]) -> Vec<u8> {
    if input.is_ascii() {
        return input.to_vec();
    }
    let words = input.iter().filter_map(|byte| dictionary.get(usize::from(*byte) % dictionary.len().max(1)));
    words.flat_map(|word| word.as_ref().iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_what_they_say_and_the_rest_is_words() {
        assert_eq!(spell(b"main", &["a", "b"]), b"main");
        assert_eq!(spell(&[0, 1, 0, 0xff], &["a", "b"]), b"abab");
        assert_eq!(spell(&[0xff], &[] as &[&str]), b"");
    }
}
