//! What a person sees: results on standard output, everything else on standard error.
//!
//! Text from models, tools and files passes through [`neutralise`], so that it can neither steer the terminal nor
//! make text read in another order than it is written.

use std::{
    borrow::Cow,
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::{environment, failure::Failure};

/// Dim: progress and details.
pub(crate) const DIM: Style = Style::new().dimmed();
/// Bold: what matters first.
pub(crate) const BOLD: Style = Style::new().bold();
/// Green: it is well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Yellow: it is less well than asked, or a person is asked.
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
/// Red: it failed.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();

/// Writes to one of the two streams; what cannot be written (a closed pipe) is nobody's concern any more.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    /// Results.
    Out,
    /// Progress, questions, errors.
    Err,
}

impl Stream {
    /// Whether a person looks at it.
    pub(crate) fn is_terminal(self) -> bool {
        match self {
            Self::Out => io::stdout().is_terminal(),
            Self::Err => io::stderr().is_terminal(),
        }
    }

    fn has_colour(self) -> bool {
        self.is_terminal() && std::env::var_os(environment::NO_COLOR).is_none_or(|value| value.is_empty())
    }

    /// The text in this style, where the stream shows styles.
    pub(crate) fn paint(self, style: Style, text: impl Display) -> String {
        if self.has_colour() { format!("{style}{text}{style:#}") } else { text.to_string() }
    }

    /// Writes a line.
    pub(crate) fn line(self, text: impl Display) {
        self.text(format_args!("{text}\n"));
    }

    /// Writes text as it is, at once.
    pub(crate) fn text(self, text: impl Display) {
        let _ = match self {
            Self::Out => {
                let mut out = io::stdout().lock();
                write!(out, "{text}").and_then(|()| out.flush())
            }
            Self::Err => write!(io::stderr().lock(), "{text}"),
        };
    }
}

/// Writes a result line to standard output.
pub(crate) fn say(text: impl Display) {
    Stream::Out.line(text);
}

/// Writes a line of progress to standard error.
pub(crate) fn note(text: impl Display) {
    Stream::Err.line(text);
}

/// Writes an error to standard error.
pub(crate) fn complain(failure: &Failure) {
    let label = Stream::Err.paint(BAD, "kamil:");
    Stream::Err.line(format_args!("{label} {}", neutralise(&failure.to_string())));
}

/// Writes a value as JSON to standard output, with every character that could steer a terminal escaped.
pub(crate) fn say_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::failed(format!("the result cannot be written as JSON: {error}")))?;
    say(escape_json(&text));
    Ok(())
}

/// The same in one line.
pub(crate) fn say_json_line<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::failed(format!("the result cannot be written as JSON: {error}")))?;
    say(escape_json(&text));
    Ok(())
}

/// Whether a person sits at standard input and sees standard error: whether questions can be asked.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn is_steering(c: char) -> bool {
    matches!(c,
        '\u{0}'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Shows control characters, bidirectional overrides and invisible tags instead of obeying them; line feeds and
/// tabs stay. Control pictures stand for the ASCII ones (Unicode block U+2400), code points for the rest.
pub(crate) fn neutralise(text: &str) -> Cow<'_, str> {
    spelt_out(text, is_steering)
}

/// The same for what a person decides on: whatever cannot be seen is named as well (Unicode property `Default_Ignorable_Code_Point`),
/// so that nothing reads differently from what it is.
pub(crate) fn exact(text: &str) -> Cow<'_, str> {
    spelt_out(text, |c| is_steering(c) || is_invisible(c))
}

fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

fn spelt_out(text: &str, names: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&names) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\u{7f}' => shown.push('\u{2421}'),
            c if c < ' ' && names(c) => {
                shown.push(char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'));
            }
            c if names(c) => shown.push_str(&format!("<U+{:04X}>", u32::from(c))),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// The first line, neutralised and cut to `width` characters.
pub(crate) fn one_line(text: &str, width: usize) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = neutralise(&line);
    if shown.chars().count() <= width {
        return shown.into_owned();
    }
    let mut cut: String = shown.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// In JSON such characters can only stand inside strings, where `\u` escapes mean the same.
fn escape_json(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| is_steering(c) && c != '\r') {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_steering(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_steer_the_terminal() {
        assert_eq!(neutralise("plain\ttext\nand é, 日本"), "plain\ttext\nand é, 日本");
        assert_eq!(neutralise("a\u{1b}[2Jb"), "a␛[2Jb");
        assert_eq!(neutralise("\u{9b}31m"), "<U+009B>31m");
        assert_eq!(neutralise("x\u{202e}gpj.exe"), "x<U+202E>gpj.exe");
        assert_eq!(neutralise("over\rwritten\u{7f}"), "over␍written␡");
        assert_eq!(neutralise("hidden\u{e0041}"), "hidden<U+E0041>");
        assert_eq!(neutralise("z\u{200b}w"), "z\u{200b}w", "writing may need it");
        assert_eq!(exact("z\u{200b}w\u{ad}\u{fe0f}\u{1b}\u{feff}"), "z<U+200B>w<U+00AD><U+FE0F>␛<U+FEFF>");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({ "text": "a\u{9b}b\u{202e}c\u{e0041}\u{7f}" });
        let escaped = escape_json(&value.to_string()).into_owned();
        assert!(escaped.is_ascii(), "{escaped}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }

    #[test]
    fn a_line_is_cut_to_its_width() {
        assert_eq!(one_line("two\n  words", 20), "two words");
        assert_eq!(one_line("abcdef", 4), "abc…");
    }
}
