//! Typed ids, so that a task can never be passed where a node is meant.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A string that is not the id it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a {kind}: {reason}")]
pub struct IdError {
    /// What was given.
    pub value: String,
    /// Which id was expected.
    pub kind: &'static str,
    /// Why it is not one.
    pub reason: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String, format = Uuid)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id, ordered by time of creation (UUID version 7, RFC 9562).
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id with this value.
            #[must_use]
            pub const fn from_uuid(value: Uuid) -> Self {
                Self(value)
            }

            /// The value behind the id.
            #[must_use]
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(value: &str) -> Result<Self, IdError> {
                Uuid::parse_str(value).map(Self).map_err(|_| IdError {
                    value: value.chars().take(80).collect(),
                    kind: $kind,
                    reason: "a UUID such as 0198c0de-7a3b-7000-8000-0123456789ab is expected",
                })
            }
        }
    };
}

uuid_id!(
    /// A task: one request of a person and all that was done for it.
    TaskId,
    "task id"
);
uuid_id!(
    /// A node; stays the same over restarts.
    NodeId,
    "node id"
);
uuid_id!(
    /// One run of a node's process; new at each start.
    InstanceId,
    "instance id"
);
uuid_id!(
    /// A memory.
    MemoryId,
    "memory id"
);
uuid_id!(
    /// A conversation.
    SessionId,
    "session id"
);

/// A step's name, unique in its task: 1–64 of `a–z A–Z 0–9 _ - .`, beginning with a letter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "recall")]
pub struct StepId(String);

impl StepId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StepId {
    type Err = IdError;

    fn from_str(value: &str) -> Result<Self, IdError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let ok = value.len() <= 64
            && value.starts_with(|c: char| c.is_ascii_alphabetic())
            && value.chars().all(allowed);
        if ok {
            return Ok(Self(value.to_owned()));
        }
        Err(IdError {
            value: value.chars().take(80).collect(),
            kind: "step id",
            reason: "1–64 of a–z A–Z 0–9 _ - . are expected, beginning with a letter",
        })
    }
}

impl TryFrom<String> for StepId {
    type Error = IdError;

    fn try_from(value: String) -> Result<Self, IdError> {
        value.parse()
    }
}

impl From<StepId> for String {
    fn from(value: StepId) -> Self {
        value.0
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StepId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_id_is_parsed_at_the_edge() {
        for good in ["recall", "s1", "s1.3", "Plan-2_b"] {
            assert_eq!(good.parse::<StepId>().unwrap().as_str(), good);
        }
        for bad in ["", "1s", "a b", "é", "a/b", &"a".repeat(65)] {
            assert!(bad.parse::<StepId>().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<StepId>("\"../x\"").is_err());
    }

    #[test]
    fn ids_sort_by_time_of_creation() {
        let first = TaskId::generate();
        let second = TaskId::generate();
        assert!(first < second);
        assert_eq!(first.to_string().parse::<TaskId>().unwrap(), first);
    }
}
