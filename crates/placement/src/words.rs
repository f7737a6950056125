//! Figures in words for a person.

use std::fmt;

/// A duration: `12 ms`, `0.4 s`, `7.5 min`.
pub(crate) struct Ms(pub(crate) f64);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms if ms < 99.5 => write!(f, "{ms:.0} ms"),
            ms if ms < 119_500.0 => write!(f, "{:.1} s", ms / 1_000.0),
            ms => write!(f, "{:.1} min", ms / 60_000.0),
        }
    }
}

/// A size: `512 MiB`, `4.4 GiB`.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: f64 = 1_048_576.0;
        let mib = self.0 as f64 / MIB;
        if mib < 1_000.0 { write!(f, "{mib:.0} MiB") } else { write!(f, "{:.1} GiB", mib / 1_024.0) }
    }
}

/// `1 token`, `12 tokens`.
pub(crate) struct Count<'a>(pub(crate) u64, pub(crate) &'a str);

impl fmt::Display for Count<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} {}{plural}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(Ms(0.4).to_string(), "0 ms");
        assert_eq!(Ms(99.9).to_string(), "0.1 s");
        assert_eq!(Ms(2_140.0).to_string(), "2.1 s");
        assert_eq!(Ms(180_000.0).to_string(), "3.0 min");
        assert_eq!(Bytes(986 << 20).to_string(), "986 MiB");
        assert_eq!(Bytes(9 << 29).to_string(), "4.5 GiB");
        assert_eq!(Count(1, "slot").to_string(), "1 slot");
        assert_eq!(Count(0, "token").to_string(), "0 tokens");
    }
}
