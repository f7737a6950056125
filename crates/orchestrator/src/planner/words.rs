//! Words of requests and of tools, made comparable.

use std::collections::BTreeSet;

const FUNCTION_WORDS: &[&str] = &[
    "a", "about", "all", "an", "and", "any", "are", "as", "at", "be", "by", "can", "could", "did", "do",
    "does", "for", "from", "get", "give", "has", "have", "hello", "help", "hi", "how", "i", "if", "in",
    "into", "is", "it", "its", "make", "me", "more", "my", "no", "not", "of", "off", "on", "one", "only",
    "or", "our", "out", "over", "please", "so", "some", "than", "thank", "thanks", "that", "the", "their",
    "them", "then", "there", "these", "they", "this", "to", "two", "up", "us", "use", "used", "was", "we",
    "what", "when", "where", "which", "who", "why", "will", "with", "without", "would", "you", "your",
];

/// Words that many tools share: they tell what is done to something, and not to what.
const GENERIC_WORDS: &[&str] = &[
    "find",
    "search",
    "retrieve",
    "fetch",
    "provide",
    "return",
    "show",
    "tell",
    "list",
    "create",
    "new",
    "set",
    "information",
    "data",
    "detail",
    "details",
    "specific",
    "specified",
    "based",
    "given",
    "user",
    "name",
    "value",
    "values",
    "type",
    "string",
    "number",
    "optional",
    "default",
    "example",
    "format",
    "such",
    "using",
    "include",
    "includes",
    "whether",
    "want",
    "need",
    "like",
    "know",
    "call",
    "function",
    "tool",
    "api",
    "current",
    "system",
];

/// Whether a word, as [`content_words`] gives it, says little about what a text is about.
pub(super) fn is_generic(word: &str) -> bool {
    word == "0" || GENERIC_WORDS.iter().any(|generic| stem(generic) == word)
}

/// The words that carry meaning, in lower case without common endings, `camelCase` taken apart; every number is the word `0`.
pub(super) fn content_words(text: &str) -> BTreeSet<String> {
    let lower = apart(text).to_lowercase();
    lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty() && !FUNCTION_WORDS.contains(word))
        .map(|word| if word.starts_with(|c: char| c.is_ascii_digit()) { "0".to_owned() } else { stem(word) })
        .collect()
}

/// The text with a space before every capital that follows a small letter.
fn apart(text: &str) -> String {
    let mut spaced = String::with_capacity(text.len() + 8);
    let mut small = false;
    for c in text.chars() {
        if small && c.is_uppercase() {
            spaced.push(' ');
        }
        small = c.is_lowercase() || c.is_ascii_digit();
        spaced.push(c);
    }
    spaced
}

/// Whether a text looks English: it is short, or some of its words are English function words.
pub(super) fn is_english(text: &str) -> bool {
    let lower = text.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let letters = text.chars().filter(|c| c.is_alphabetic());
    let foreign = letters.clone().filter(|c| !c.is_ascii()).count();
    let mostly_ascii = foreign * 10 <= letters.count();
    mostly_ascii && (words.len() < 4 || words.iter().any(|word| FUNCTION_WORDS.contains(word)))
}

/// The first file name or path in a text: something with an ending, such as `notes.txt`, or of several parts, such as `src/main/app`.
pub(super) fn file_name(text: &str) -> Option<&str> {
    let apart = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',' | '(' | ')' | '?');
    text.split(apart).map(|word| word.trim_end_matches(['.', ':', ';', '!'])).find(|word| is_file_name(word))
}

fn is_file_name(word: &str) -> bool {
    let abbreviation = matches!(word.to_lowercase().as_str(), "e.g" | "i.e" | "a.m" | "p.m");
    let ending = |ending: &str| {
        (1..=5).contains(&ending.len())
            && ending.chars().all(|c| c.is_ascii_alphanumeric())
            && ending.chars().any(|c| c.is_ascii_alphabetic())
    };
    let has_ending =
        word.rsplit_once('.').is_some_and(|(stem, end)| stem.contains(char::is_alphanumeric) && ending(end));
    let is_path = word.split('/').count() > 2 && !word.contains("//") && word.contains(char::is_alphabetic);
    !abbreviation && (has_ending || is_path)
}

fn stem(word: &str) -> String {
    if word.ends_with("ss") {
        return word.to_owned();
    }
    for ending in ["ing", "ed", "es", "s", "e"] {
        if let Some(stem) = word.strip_suffix(ending).filter(|stem| stem.len() >= 3) {
            return stem.to_owned();
        }
    }
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_word_meet() {
        for (one, other) in [
            ("files", "file"),
            ("trained", "train"),
            ("processes", "process"),
            ("saving", "save"),
            ("12", "3.5"),
        ] {
            assert!(!content_words(one).is_disjoint(&content_words(other)), "{one} {other}");
        }
    }

    #[test]
    fn names_in_camel_case_are_several_words() {
        let words = content_words("QueryMeetingRoom");
        assert_eq!(words, ["meet", "query", "room"].map(str::to_owned).into());
        assert!(is_generic(content_words("Details").first().unwrap()));
        assert!(!is_generic("weather"));
    }

    #[test]
    fn other_languages_are_not_taken_for_english() {
        assert!(is_english("List the files in my workspace"));
        assert!(!is_english("Liste bitte alle Dateien auf"));
        assert!(!is_english("请列出我的文件"));
    }
}
