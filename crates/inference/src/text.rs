//! From token bytes to text that can be shown: whole characters only, nothing past a stop string.

/// Collects the bytes of tokens and gives out text as soon as it is certain.
#[derive(Debug)]
pub(crate) struct TextAssembler {
    stops: Vec<String>,
    /// Bytes that do not make a whole character yet.
    partial: Vec<u8>,
    /// Whole characters that may turn out to be the beginning of a stop string.
    held: String,
    stopped: bool,
}

impl TextAssembler {
    pub(crate) fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, partial: Vec::new(), held: String::new(), stopped: false }
    }

    /// Whether a stop string has come.
    pub(crate) fn stopped(&self) -> bool {
        self.stopped
    }

    /// Takes the bytes of the next token and returns the text that is certain now, which may be empty.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        if self.stopped {
            return String::new();
        }
        self.partial.extend_from_slice(bytes);
        self.take_whole_characters();
        let first_stop = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = first_stop {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// What was held back, at the end of the output. Bytes that never became a character are replaced by U+FFFD.
    pub(crate) fn finish(&mut self) -> String {
        if self.stopped {
            return String::new();
        }
        let partial = std::mem::take(&mut self.partial);
        self.held.push_str(&String::from_utf8_lossy(&partial));
        std::mem::take(&mut self.held)
    }

    fn take_whole_characters(&mut self) {
        loop {
            match std::str::from_utf8(&self.partial) {
                Ok(text) => {
                    self.held.push_str(text);
                    self.partial.clear();
                    return;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    self.held.push_str(&String::from_utf8_lossy(&self.partial[..valid]));
                    let Some(invalid) = error.error_len() else {
                        self.partial.drain(..valid);
                        return;
                    };
                    self.held.push(char::REPLACEMENT_CHARACTER);
                    self.partial.drain(..valid + invalid);
                }
            }
        }
    }
}

/// Length in bytes of the longest proper prefix of `stop` that `text` ends with.
fn overlap(text: &str, stop: &str) -> usize {
    stop.char_indices().skip(1).map(|(at, _)| at).filter(|at| text.ends_with(&stop[..*at])).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_split_over_tokens_come_out_whole() {
        let mut text = TextAssembler::new(&[]);
        let word = "žába 🐸".as_bytes();
        let mut shown = String::new();
        for byte in word {
            shown.push_str(&text.push(&[*byte]));
        }
        shown.push_str(&text.finish());
        assert_eq!(shown, "žába 🐸");
    }

    #[test]
    fn invalid_bytes_are_replaced_not_kept_forever() {
        let mut text = TextAssembler::new(&[]);
        assert_eq!(text.push(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(text.push(b"\xe2\x82"), "");
        assert_eq!(text.finish(), "\u{fffd}");
    }

    #[test]
    fn a_stop_string_over_several_tokens_is_cut_and_its_beginning_never_shown() {
        let mut text = TextAssembler::new(&["\nUser:".to_owned(), "END".to_owned()]);
        assert_eq!(text.push(b"hello"), "hello");
        assert_eq!(text.push(b"\nUs"), "");
        assert_eq!(text.push(b"e"), "");
        assert_eq!(text.push(b"ful\n"), "\nUseful");
        assert_eq!(text.push(b"User: x"), "");
        assert!(text.stopped());
        assert_eq!(text.finish(), "");
    }

    #[test]
    fn what_only_looked_like_a_stop_string_comes_at_the_end() {
        let mut text = TextAssembler::new(&["END".to_owned()]);
        assert_eq!(text.push(b"the EN"), "the ");
        assert_eq!(text.finish(), "EN");
    }
}
