//! Serialization of times and intents.

/// Times as RFC 3339 text.
pub(crate) mod rfc3339 {
    use std::time::SystemTime;

    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(
        time: &SystemTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        // Times beyond the year 9999 are clamped: an event must not be lost for its time.
        let time = Timestamp::try_from(*time).unwrap_or(Timestamp::MAX);
        serializer.collect_str(&time)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time: Timestamp = text.parse().map_err(de::Error::custom)?;
        Ok(time.into())
    }

    /// The same for optional times.
    pub(crate) mod option {
        use std::time::SystemTime;

        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        #[derive(Serialize, Deserialize)]
        struct Rfc3339(#[serde(with = "super")] SystemTime);

        pub(crate) fn serialize<S: Serializer>(
            time: &Option<SystemTime>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            time.map(Rfc3339).serialize(serializer)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<SystemTime>, D::Error> {
            let time = Option::<Rfc3339>::deserialize(deserializer)?;
            Ok(time.map(|Rfc3339(time)| time))
        }
    }
}

/// Intents by their names.
pub(crate) mod intent {
    use landfall::hook::Intent;
    use serde::{Deserialize, Deserializer, Serializer, de};

    const ALL: [Intent; 6] = [
        Intent::Create,
        Intent::Write,
        Intent::Inspect,
        Intent::Read,
        Intent::Terminate,
        Intent::Concatenate,
    ];

    pub(crate) fn serialize<S: Serializer>(
        intent: &Option<Intent>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match intent {
            Some(intent) => serializer.serialize_some(intent.as_str()),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Intent>, D::Error> {
        let Some(name) = Option::<String>::deserialize(deserializer)? else {
            return Ok(None);
        };
        let found = ALL.into_iter().find(|intent| intent.as_str() == name);
        let invalid = || de::Error::custom(format_args!("unknown intent {name:?}"));
        found.map(Some).ok_or_else(invalid)
    }
}
