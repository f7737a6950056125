//! Cutting text so that a result stays within the bound of a step's output.

/// The longest beginning of `text` whose JSON string form takes at most `budget` bytes, and whether that is less than
/// all of it. Control characters and quotes take more room in JSON than in the text, so bytes alone do not tell.
pub(crate) fn fit(text: &str, budget: usize) -> (&str, bool) {
    let mut used = 2;
    for (index, c) in text.char_indices() {
        used += match c {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
            c if (c as u32) < 0x20 => 6,
            c => c.len_utf8(),
        };
        if used > budget {
            return (&text[..index], true);
        }
    }
    (text, false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::fit;

    proptest! {
        #[test]
        fn the_json_form_fits_and_nothing_is_cut_without_need(text in "(?s).{0,80}", budget in 2usize..200) {
            let (kept, cut) = fit(&text, budget);
            let size = |text: &str| serde_json::to_string(text).unwrap().len();
            prop_assert!(size(kept) <= budget);
            prop_assert!(text.starts_with(kept));
            prop_assert_eq!(cut, size(&text) > budget);
        }
    }
}
