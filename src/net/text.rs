//! Values as text in JSON: as they are printed, and read back as they are parsed.

/// Makes strings of values in serialized data.
macro_rules! as_text {
    ($($type:ty: $what:literal),* $(,)?) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($what)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    )*};
}

pub(crate) use as_text;

as_text! {
    super::Mac: "a MAC address",
    super::Mark: "a mark",
    super::Proto: "a protocol",
    super::Stage: "a stage",
    super::Verdict: "a verdict",
}
