//! What a query says: its words of content, the names in it, the time that it means.

use std::{borrow::Cow, collections::BTreeSet};

use jiff::Zoned;

use super::time_expression::{self, When};

/// Different words of a query that are looked for at most.
const MAX_TERMS: usize = 32;
/// Names of a query that are looked for at most.
const MAX_ENTITIES: usize = 16;
/// Part of a query that is looked at for words and names, in bytes; the embedding reads its own share.
const MAX_READ: usize = 4 * 1024;

/// Words that say nothing about what is sought.
const STOP_WORDS: &[&str] = &[
    "a",
    "about",
    "again",
    "all",
    "also",
    "am",
    "an",
    "and",
    "any",
    "anything",
    "are",
    "as",
    "ask",
    "at",
    "be",
    "because",
    "been",
    "but",
    "by",
    "can",
    "could",
    "did",
    "do",
    "does",
    "done",
    "for",
    "from",
    "get",
    "give",
    "had",
    "has",
    "have",
    "he",
    "her",
    "here",
    "him",
    "his",
    "how",
    "i",
    "if",
    "in",
    "into",
    "is",
    "it",
    "its",
    "just",
    "know",
    "let",
    "like",
    "make",
    "may",
    "me",
    "more",
    "most",
    "much",
    "my",
    "no",
    "not",
    "of",
    "on",
    "one",
    "or",
    "our",
    "out",
    "please",
    "remember",
    "said",
    "say",
    "she",
    "should",
    "so",
    "some",
    "something",
    "tell",
    "than",
    "that",
    "the",
    "their",
    "them",
    "then",
    "there",
    "these",
    "they",
    "thing",
    "things",
    "this",
    "those",
    "time",
    "to",
    "up",
    "us",
    "use",
    "very",
    "was",
    "we",
    "were",
    "what",
    "when",
    "where",
    "which",
    "who",
    "why",
    "will",
    "with",
    "would",
    "you",
    "your",
];

/// A word of the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word<'a> {
    /// As it stands, without punctuation around it.
    pub(crate) text: &'a str,
    pub(crate) lower: String,
    /// Whether a sentence begins with it.
    first: bool,
}

/// The words of a text; punctuation inside a word (`iris.csv`, `2026-11-20`) stays.
pub(crate) fn words(text: &str) -> Vec<Word<'_>> {
    let mut found = Vec::new();
    let mut first = true;
    for piece in text.split_whitespace() {
        let word = piece.trim_matches(|c: char| !c.is_alphanumeric());
        if !word.is_empty() {
            found.push(Word { text: word, lower: word.to_lowercase(), first });
            first = false;
        }
        first |= piece.ends_with(['.', '!', '?', ':']);
    }
    found
}

/// A query as recall uses it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Query {
    /// Words of content in lower case, without repeats.
    pub(crate) terms: Vec<String>,
    /// Names, numbers and quoted passages in lower case, without repeats.
    pub(crate) entities: Vec<String>,
    /// The time it means.
    pub(crate) when: Option<When>,
}

impl Query {
    pub(crate) fn parse(text: &str, now: &Zoned) -> Self {
        let text = &text[..text.floor_char_boundary(MAX_READ)];
        let words = words(text);
        let timed = time_expression::find(&words, now);
        let of_time = timed.as_ref().map_or(0..0, |(_, taken)| taken.clone());
        let mut terms = BTreeSet::new();
        let mut in_order = Vec::new();
        let mut entities = quoted(text);
        for (index, word) in words.iter().enumerate() {
            if of_time.contains(&index) {
                continue;
            }
            if is_name(word) {
                entities.push(word.lower.clone());
            }
            for term in split(&word.lower) {
                if in_order.len() < MAX_TERMS && !is_stop_word(term) && terms.insert(term.to_owned()) {
                    in_order.push(term.to_owned());
                }
            }
        }
        let mut known = BTreeSet::new();
        entities.retain(|entity| known.insert(entity.clone()));
        entities.truncate(MAX_ENTITIES);
        Self { terms: in_order, entities, when: timed.map(|(when, _)| when) }
    }
}

/// Splits where the index of words does: at everything that is neither letter nor digit.
pub(crate) fn split(word: &str) -> impl Iterator<Item = &str> {
    word.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty())
}

fn is_stop_word(word: &str) -> bool {
    word.len() == 1 && word.is_ascii() && !word.as_bytes()[0].is_ascii_digit()
        || STOP_WORDS.binary_search(&word).is_ok()
}

fn is_name(word: &Word<'_>) -> bool {
    let has = |test: fn(char) -> bool| word.text.chars().any(test);
    if has(|c| c.is_ascii_digit()) || has(|c| matches!(c, '.' | '_' | '/' | '@')) {
        return true;
    }
    let capital = word.text.starts_with(char::is_uppercase);
    let all_capitals = word.text.chars().count() > 1 && !has(char::is_lowercase);
    capital && (all_capitals || !word.first) && !is_stop_word(&word.lower)
}

fn quoted(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (open, close) in [('"', '"'), ('“', '”'), ('„', '“'), ('«', '»'), ('`', '`')] {
        let mut rest = text;
        while let Some((_, inside)) = rest.split_once(open) {
            let Some((passage, after)) = inside.split_once(close) else { break };
            let passage = passage.trim().to_lowercase();
            if (2..=64).contains(&passage.len()) {
                found.push(passage);
            }
            rest = after;
        }
    }
    found
}

/// A word without the endings that English adds, about as the index of words does it (Porter, 1980, first steps).
pub(crate) fn stem(word: &str) -> Cow<'_, str> {
    let long = |rest: &str| rest.chars().count() >= 3;
    for (ending, instead) in [
        ("ational", "ate"),
        ("ization", "ize"),
        ("ations", "ate"),
        ("ation", "ate"),
        ("ingly", ""),
        ("edly", ""),
        ("ies", "i"),
        ("ing", ""),
        ("ed", ""),
        ("es", ""),
        ("ly", ""),
        ("s", ""),
        ("y", "i"),
        ("e", ""),
    ] {
        if let Some(rest) = word.strip_suffix(ending)
            && long(rest)
            && !(ending == "s" && rest.ends_with('s'))
        {
            let rest = match rest.as_bytes() {
                // `running` and `run`, but `falling` and `fall`.
                [.., a, b]
                    if a == b && matches!(ending, "ing" | "ed") && !matches!(b, b'l' | b's' | b'z') =>
                {
                    &rest[..rest.len() - 1]
                }
                _ => rest,
            };
            return match instead {
                "" => Cow::Borrowed(rest.strip_suffix('e').filter(|rest| long(rest)).unwrap_or(rest)),
                _ => Cow::Owned(format!("{rest}{}", instead.trim_end_matches('e'))),
            };
        }
    }
    Cow::Borrowed(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Query {
        Query::parse(text, &"2026-11-22T12:00:00Z[UTC]".parse().unwrap())
    }

    #[test]
    fn stop_words_are_sorted() {
        assert!(STOP_WORDS.is_sorted());
    }

    #[test]
    fn content_names_and_time_are_told_apart() {
        let query = parse("What did I train last time, and how good was it?");
        assert_eq!(query.terms, ["train", "good"]);
        assert_eq!(query.when, Some(When::Latest));
        assert!(query.entities.is_empty());

        let query = parse("Did Anna send \"the blue folder\" to NASA in iris.csv, 97 times?");
        assert_eq!(query.entities, ["the blue folder", "anna", "nasa", "iris.csv", "97"]);
        assert_eq!(query.terms, ["anna", "send", "blue", "folder", "nasa", "iris", "csv", "97", "times"]);

        assert_eq!(
            parse("Explain. Berlin is big").entities,
            Vec::<String>::new(),
            "sentences begin with capitals"
        );
    }

    #[test]
    fn a_query_is_bounded() {
        let query = parse(&(0..5_000).map(|n| format!("Wort{n} ")).collect::<String>());
        assert_eq!((query.terms.len(), query.entities.len()), (MAX_TERMS, MAX_ENTITIES));
        assert!(parse(&"é".repeat(40_000)).terms.len() == 1);
        assert_eq!(parse("\" OR NEAR( * ) ^ - : ").terms, ["near"]);
    }

    #[test]
    fn stems_bring_forms_of_a_word_together() {
        for forms in [
            &["train", "trained", "training", "trains"][..],
            &["model", "models"],
            &["run", "running", "runs"],
            &["summary", "summaries"],
            &["classes", "class"],
            &["validate", "validation", "validating"],
            &["code", "coding", "codes", "coded"],
        ] {
            let stems: BTreeSet<_> = forms.iter().map(|form| stem(form)).collect();
            assert_eq!(stems.len(), 1, "{forms:?}: {stems:?}");
        }
        assert_ne!(stem("iris"), stem("iron"));
    }
}
