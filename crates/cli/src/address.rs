//! Addresses of orchestrators as people type them.

use std::fmt;

use crate::failure::Failure;

/// Where a service answers: `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// On this machine.
    pub(crate) fn loopback(port: u16) -> Self {
        Self { host: "127.0.0.1".to_owned(), port }
    }

    /// Reads `host`, `host:port`, `http://host:port` or `[v6]:port`.
    pub(crate) fn parse(text: &str, default_port: u16) -> Result<Self, Failure> {
        let refuse = |why: &str| {
            Failure::usage(format!("`{text}` is not the address of an orchestrator: {why}"))
                .next("write host:port, for example desktop:8000")
        };
        let rest = text.trim();
        if rest.starts_with("https://") {
            return Err(refuse("nodes speak http:// with a cluster key"));
        }
        let rest = rest.strip_prefix("http://").unwrap_or(rest);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                let port = port.parse().map_err(|_| refuse("the port is not a number from 1 to 65535"))?;
                (host, port)
            }
            _ => (rest, default_port),
        };
        let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
        let is_v6 = bare.parse::<std::net::Ipv6Addr>().is_ok();
        let is_name = !bare.is_empty()
            && bare.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        if port == 0 {
            return Err(refuse("the port is not a number from 1 to 65535"));
        }
        match (is_v6, is_name) {
            (true, _) => Ok(Self { host: format!("[{bare}]"), port }),
            (false, true) => Ok(Self { host: bare.to_owned(), port }),
            _ => Err(refuse("the host is not a name or an IP address")),
        }
    }

    /// The beginning of every URL there.
    pub(crate) fn url(&self) -> String {
        format!("http://{self}")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_type_them() {
        for (text, url) in [
            ("desktop", "http://desktop:8000"),
            ("localhost:9000", "http://localhost:9000"),
            ("http://10.0.0.7:8000/", "http://10.0.0.7:8000"),
            ("::1", "http://[::1]:8000"),
            ("[::1]:81", "http://[::1]:81"),
        ] {
            assert_eq!(Address::parse(text, 8000).unwrap().url(), url, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in
            ["", "a b", "host:port", "host:0", "host:70000", "https://host", "http://user@host", "host/path"]
        {
            let message = Address::parse(text, 8000).unwrap_err().to_string();
            assert!(message.contains("host:port"), "{message}");
        }
    }
}
