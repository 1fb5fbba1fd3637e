//! How late what is brought on a medium may come.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::time::{Time, span};

const REFUSE: &str = "refuse";

/// `"refuse"`, or how long ago the metadata on a medium may have expired, such as `"90d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OfflineExpiry(pub Option<Time>);

impl OfflineExpiry {
    /// How long ago it may have expired.
    pub fn grace(self) -> Duration {
        self.0.map_or(Duration::ZERO, |time| time.0)
    }
}

impl Serialize for OfflineExpiry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => serializer.serialize_str(REFUSE),
            Some(time) => time.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for OfflineExpiry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match span(&text) {
            _ if text == REFUSE => Ok(Self(None)),
            Some(time) => Ok(Self(Some(Time(time)))),
            None => Err(D::Error::custom(format!(
                "{text:?} is neither \"refuse\" nor a span of time such as 90d"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_refused() {
        let read = |text: &str| serde_json::from_str::<OfflineExpiry>(text).map(OfflineExpiry::grace).ok();
        assert_eq!(OfflineExpiry::default().grace(), Duration::ZERO);
        assert_eq!(read("\"refuse\""), Some(Duration::ZERO));
        assert_eq!(read("\"90d\""), Some(Duration::from_secs(90 * 86_400)));
        for bad in ["\"\"", "\"accept\"", "\"-1d\"", "90", "true"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
