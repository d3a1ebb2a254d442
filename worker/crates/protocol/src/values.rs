//! Newtypes that can only hold what the contract allows.

use crate::limits::{
    BATCH_IMAGES_MAX, BATCH_IMAGES_MIN, CLIP_SKIP_MAX, DIMENSION_PIXELS_MAX, DIMENSION_PIXELS_MIN,
    DIMENSION_PIXELS_MULTIPLE, GUIDANCE_RESCALE_MAX, GUIDANCE_SCALE_MAX, GUIDANCE_SCALE_MIN,
    IMAGE_BYTES_MAX, IMAGE_TEXT_BYTES_MAX, JSON_SAFE_INTEGER_MAX, LORA_SCALE_MAX, LORA_SCALE_MIN,
    MASK_BLUR_PIXELS_MAX, NAME_BYTES_MAX, ONLY_MASKED_PADDING_PIXELS_MAX, OUTPAINT_PIXELS_MAX,
    PROMPT_CHARS_MAX, STEPS_MAX, STEPS_MIN, STRENGTH_MAX,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// A value outside its bound. The message names the bound and the value; the field's name is added by whoever
/// knows it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(String);

impl ValueError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

macro_rules! integer_newtype {
    ($(#[$doc:meta])* $name:ident, $expecting:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(as = "u32", export_to = "protocol.ts"))]
        #[serde(transparent)]
        pub struct $name(u32);

        impl $name {
            /// Checks the bound.
            ///
            /// # Errors
            /// If the value is outside it; the message names both.
            pub fn new(value: u32) -> Result<Self, ValueError> {
                let check: fn(i64) -> Result<(), ValueError> = $check;
                check(i64::from(value)).map(|()| Self(value))
            }

            /// The checked value.
            #[must_use]
            pub const fn get(self) -> u32 {
                self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = deserialize_integer(deserializer, $expecting)?;
                let check: fn(i64) -> Result<(), ValueError> = $check;
                check(value).map_err(de::Error::custom)?;
                u32::try_from(value).map(Self).map_err(de::Error::custom)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

/// Any integer that fits an `i64`, so that a negative or huge one is refused with the field's own bound instead of
/// serde's "expected u32". Integral floats (`20.0`, as JavaScript may print them) are accepted.
fn deserialize_integer<'de, D: Deserializer<'de>>(
    deserializer: D,
    expecting: fn(&mut fmt::Formatter<'_>) -> fmt::Result,
) -> Result<i64, D::Error> {
    struct Visitor(fn(&mut fmt::Formatter<'_>) -> fmt::Result);
    impl de::Visitor<'_> for Visitor {
        type Value = i64;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0(f)
        }
        fn visit_i64<E: de::Error>(self, value: i64) -> Result<i64, E> {
            Ok(value)
        }
        fn visit_u64<E: de::Error>(self, value: u64) -> Result<i64, E> {
            Ok(i64::try_from(value).unwrap_or(i64::MAX))
        }
        fn visit_f64<E: de::Error>(self, value: f64) -> Result<i64, E> {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "integral and within 2^53, checked in the condition"
            )]
            if value.fract() == 0.0 && value.abs() < 9.0e15 {
                Ok(value as i64)
            } else {
                Err(E::invalid_type(de::Unexpected::Float(value), &self))
            }
        }
    }
    deserializer.deserialize_any(Visitor(expecting))
}

fn in_range(value: i64, minimum: u32, maximum: u32) -> Result<(), ValueError> {
    if (i64::from(minimum)..=i64::from(maximum)).contains(&value) {
        Ok(())
    } else {
        Err(ValueError::new(format!(
            "must be {minimum}..={maximum}, got {value}"
        )))
    }
}

integer_newtype!(
    /// Denoising steps, 1–150.
    Steps,
    |f| write!(f, "an integer within {STEPS_MIN}..={STEPS_MAX}"),
    |value| in_range(value, STEPS_MIN, STEPS_MAX)
);
integer_newtype!(
    /// Images in one job, 1–8.
    BatchSize,
    |f| write!(f, "an integer within {BATCH_IMAGES_MIN}..={BATCH_IMAGES_MAX}"),
    |value| in_range(value, BATCH_IMAGES_MIN, BATCH_IMAGES_MAX)
);
integer_newtype!(
    /// How many steps lie between two previews, 1–150.
    PreviewInterval,
    |f| write!(f, "an integer within {STEPS_MIN}..={STEPS_MAX}"),
    |value| in_range(value, STEPS_MIN, STEPS_MAX)
);
integer_newtype!(
    /// Last layers of the text encoder that are left out, 0–32.
    #[derive(Default)]
    ClipSkip,
    |f| write!(f, "an integer within 0..={CLIP_SKIP_MAX}"),
    |value| in_range(value, 0, CLIP_SKIP_MAX)
);
integer_newtype!(
    /// Pixels around the masked part that are drawn along with it, 0–1024.
    OnlyMaskedPadding,
    |f| write!(f, "an integer within 0..={ONLY_MASKED_PADDING_PIXELS_MAX}"),
    |value| in_range(value, 0, ONLY_MASKED_PADDING_PIXELS_MAX)
);
integer_newtype!(
    /// Pixels added to one edge of an image, 0–4096.
    #[derive(Default)]
    OutpaintPixels,
    |f| write!(f, "an integer within 0..={OUTPAINT_PIXELS_MAX}"),
    |value| in_range(value, 0, OUTPAINT_PIXELS_MAX)
);
integer_newtype!(
    /// Width or height in pixels: a multiple of 8, 8–4096. A model's own bounds are narrower and checked with the
    /// model.
    Dimension,
    |f| write!(
        f,
        "a multiple of {DIMENSION_PIXELS_MULTIPLE} within {DIMENSION_PIXELS_MIN}..={DIMENSION_PIXELS_MAX}"
    ),
    |value| {
        if in_range(value, DIMENSION_PIXELS_MIN, DIMENSION_PIXELS_MAX).is_ok()
            && value % i64::from(DIMENSION_PIXELS_MULTIPLE) == 0
        {
            Ok(())
        } else {
            Err(ValueError::new(format!(
                "must be a multiple of {DIMENSION_PIXELS_MULTIPLE} within {DIMENSION_PIXELS_MIN}..={DIMENSION_PIXELS_MAX}, got {value}"
            )))
        }
    }
);

macro_rules! number_newtype {
    ($(#[$doc:meta])* $name:ident, $expecting:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
        #[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(as = "f64", export_to = "protocol.ts"))]
        #[serde(transparent)]
        pub struct $name(f64);

        impl $name {
            /// Checks the bound.
            ///
            /// # Errors
            /// If the value is not a number or outside the bound; the message names both.
            pub fn new(value: f64) -> Result<Self, ValueError> {
                let check: fn(f64) -> Result<(), ValueError> = $check;
                // -0.0 passes a range from 0; keep one zero.
                check(value).map(|()| Self(value + 0.0))
            }

            /// The checked value.
            #[must_use]
            pub const fn get(self) -> f64 {
                self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(deserialize_number(deserializer, $expecting)?).map_err(de::Error::custom)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

fn deserialize_number<'de, D: Deserializer<'de>>(
    deserializer: D,
    expecting: fn(&mut fmt::Formatter<'_>) -> fmt::Result,
) -> Result<f64, D::Error> {
    struct Visitor(fn(&mut fmt::Formatter<'_>) -> fmt::Result);
    impl de::Visitor<'_> for Visitor {
        type Value = f64;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0(f)
        }
        fn visit_f64<E: de::Error>(self, value: f64) -> Result<f64, E> {
            Ok(value)
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "an integer that f64 cannot hold is far outside every bound, checked next"
        )]
        fn visit_i64<E: de::Error>(self, value: i64) -> Result<f64, E> {
            Ok(value as f64)
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "an integer that f64 cannot hold is far outside every bound, checked next"
        )]
        fn visit_u64<E: de::Error>(self, value: u64) -> Result<f64, E> {
            Ok(value as f64)
        }
    }
    deserializer.deserialize_any(Visitor(expecting))
}

/// `contains` is false for NaN.
fn number_in_range(value: f64, minimum: f64, maximum: f64) -> Result<(), ValueError> {
    if (minimum..=maximum).contains(&value) {
        Ok(())
    } else {
        Err(ValueError::new(format!(
            "must be {minimum}..={maximum}, got {value}"
        )))
    }
}

number_newtype!(
    /// How strongly the prompt steers, 0–30; 1 and below turn classifier-free guidance off.
    GuidanceScale,
    |f| write!(
        f,
        "a number within {GUIDANCE_SCALE_MIN}..={GUIDANCE_SCALE_MAX}"
    ),
    |value| number_in_range(value, GUIDANCE_SCALE_MIN, GUIDANCE_SCALE_MAX)
);
number_newtype!(
    /// How much of the prediction's spread is taken back to what it was without guidance, 0–1.
    #[derive(Default)]
    GuidanceRescale,
    |f| write!(f, "a number within 0..={GUIDANCE_RESCALE_MAX}"),
    |value| number_in_range(value, 0.0, GUIDANCE_RESCALE_MAX)
);
number_newtype!(
    /// How much of an image is given up to noise: above 0, at most 1.
    Strength,
    |f| write!(f, "a number above 0 and at most {STRENGTH_MAX}"),
    |value| {
        if value > 0.0 && value <= STRENGTH_MAX {
            Ok(())
        } else {
            Err(ValueError::new(format!(
                "must be above 0 and at most {STRENGTH_MAX}, got {value}"
            )))
        }
    }
);
number_newtype!(
    /// The standard deviation of the blur that a mask gets, 0–64 pixels.
    MaskBlur,
    |f| write!(f, "a number within 0..={MASK_BLUR_PIXELS_MAX}"),
    |value| number_in_range(value, 0.0, MASK_BLUR_PIXELS_MAX)
);
number_newtype!(
    /// How strongly a LoRA counts, −4–4; negative ones steer away from it.
    LoraScale,
    |f| write!(f, "a number within {LORA_SCALE_MIN}..={LORA_SCALE_MAX}"),
    |value| number_in_range(value, LORA_SCALE_MIN, LORA_SCALE_MAX)
);

impl Default for LoraScale {
    /// As it was trained.
    fn default() -> Self {
        Self(1.0)
    }
}

/// Where the noise starts from. JavaScript cannot hold every u64, so seeds above 2^53−1 travel as decimal strings;
/// both forms are accepted for any seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "ts",
    derive(ts_rs::TS),
    ts(type = "number | string", export_to = "protocol.ts")
)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of image `index` of a batch: `seed + index`, wrapping.
    #[must_use]
    pub const fn of_image(self, index: u32) -> Self {
        Self(self.0.wrapping_add(index as u64))
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Seed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 <= JSON_SAFE_INTEGER_MAX {
            serializer.serialize_u64(self.0)
        } else {
            serializer.collect_str(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Seed;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an unsigned 64-bit integer, as a number or (above 2^53-1) a string")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Seed, E> {
                Ok(Seed(value))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Seed, E> {
                u64::try_from(value)
                    .map(Seed)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Seed, E> {
                // A JavaScript number reaches serde-wasm-bindgen as f64; exact only up to 2^53-1.
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss,
                    reason = "integral, non-negative and within 2^53, checked in the condition"
                )]
                if value.fract() == 0.0 && (0.0..=JSON_SAFE_INTEGER_MAX as f64).contains(&value) {
                    Ok(Seed(value as u64))
                } else {
                    Err(E::invalid_value(de::Unexpected::Float(value), &self))
                }
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Seed, E> {
                // Digits only: `parse` alone would take a leading '+'.
                if !value.is_empty()
                    && value.bytes().all(|byte| byte.is_ascii_digit())
                    && let Ok(seed) = value.parse()
                {
                    return Ok(Seed(seed));
                }
                Err(E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

macro_rules! string_newtype {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(as = "String", export_to = "protocol.ts"))]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Checks the bound.
            ///
            /// # Errors
            /// If the text breaks the rule that the type's documentation states.
            pub fn new(value: impl Into<String>) -> Result<Self, ValueError> {
                let value = value.into();
                let check: fn(&str) -> Result<(), ValueError> = $check;
                check(&value).map(|()| Self(value))
            }

            /// The checked text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

fn prompt_length(value: &str) -> Result<(), ValueError> {
    let length = value.chars().count();
    if length > PROMPT_CHARS_MAX {
        return Err(ValueError::new(format!(
            "must be at most {PROMPT_CHARS_MAX} characters, got {length}"
        )));
    }
    if value.contains('\0') {
        return Err(ValueError::new("must not contain a NUL character"));
    }
    Ok(())
}

fn name(value: &str) -> Result<(), ValueError> {
    let starts_well = value
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let only_allowed = value.bytes().all(|byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
    });
    if starts_well && only_allowed && value.len() <= NAME_BYTES_MAX {
        Ok(())
    } else {
        Err(ValueError::new(format!(
            "must be 1..={NAME_BYTES_MAX} characters of a-z, 0-9, '.', '_' or '-', starting with a letter or digit"
        )))
    }
}

string_newtype!(
    /// What to draw: 1–4000 characters, not only white space.
    Prompt,
    |value| if value.trim().is_empty() {
        Err(ValueError::new("must not be empty"))
    } else {
        prompt_length(value)
    }
);
string_newtype!(
    /// What to steer away from: at most 4000 characters; may be empty.
    #[derive(Default)]
    NegativePrompt,
    prompt_length
);
string_newtype!(
    /// A model's id as `/v1/models` lists it. Looked up in a table, never joined to a path.
    ModelId,
    name
);
string_newtype!(
    /// A scheduler's name as `/v1/schedulers` lists it.
    SchedulerName,
    name
);
string_newtype!(
    /// A LoRA's name as the worker lists it. Looked up in a table, never joined to a path.
    LoraName,
    name
);
string_newtype!(
    /// `job_` and a ULID in lower case; made by the server only.
    JobId,
    |value| {
        if is_id("job_", value) {
            Ok(())
        } else {
            Err(ValueError::new("must be a job id as POST /v1/jobs returned it"))
        }
    }
);
string_newtype!(
    /// `upload_` and a ULID in lower case; made by the server only.
    UploadId,
    |value| {
        if is_id(UPLOAD_ID_PREFIX, value) {
            Ok(())
        } else {
            Err(ValueError::new(
                "must be an upload id as POST /v1/uploads returned it",
            ))
        }
    }
);
string_newtype!(
    /// An image in a request: its file in base64, as a `data:` URL or not, or the id of an upload. URLs are never
    /// fetched.
    ImageSource,
    image_source
);

const UPLOAD_ID_PREFIX: &str = "upload_";

fn is_id(prefix: &str, value: &str) -> bool {
    value.strip_prefix(prefix).is_some_and(|ulid| {
        ulid.len() == 26
            && ulid
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    })
}

/// What an [`ImageSource`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageSourceKind<'a> {
    /// The file in base64.
    Base64(&'a str),
    /// The id of an upload.
    Upload(&'a str),
}

impl ImageSource {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> ImageSourceKind<'_> {
        if is_id(UPLOAD_ID_PREFIX, &self.0) {
            ImageSourceKind::Upload(&self.0)
        } else {
            // The rule for the text lets no `data:` URL in that has no comma.
            let base64 = self
                .0
                .split_once(',')
                .map_or(&*self.0, |(_, base64)| base64);
            ImageSourceKind::Base64(base64)
        }
    }
}

/// Never names the value: it may be megabytes of somebody's picture.
fn image_source(value: &str) -> Result<(), ValueError> {
    if value.len() > IMAGE_TEXT_BYTES_MAX {
        return Err(ValueError::new(format!(
            "must be an image file of at most {IMAGE_BYTES_MAX} bytes, got {} characters of base64",
            value.len()
        )));
    }
    if is_id(UPLOAD_ID_PREFIX, value) {
        return Ok(());
    }
    let base64 = match value.get(..5) {
        Some(scheme) if scheme.eq_ignore_ascii_case("data:") => {
            let Some((head, base64)) = value.split_once(',') else {
                return Err(ValueError::new(
                    "must have its bytes after the comma of the data: URL",
                ));
            };
            if !head.to_ascii_lowercase().ends_with(";base64") {
                return Err(ValueError::new("must be in base64 where it is a data: URL"));
            }
            base64
        }
        _ => value,
    };
    let is_base64 =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=');
    let is_filler = |byte: u8| byte.is_ascii_whitespace();
    if !base64.is_empty()
        && base64
            .bytes()
            .all(|byte| is_base64(byte) || is_filler(byte))
    {
        Ok(())
    } else {
        Err(ValueError::new(
            "must be base64, a data: URL or the id of an upload; URLs are never fetched",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: fmt::Debug + for<'de> Deserialize<'de>>(json: &str) -> String {
        serde_json::from_str::<T>(json)
            .expect_err("refused")
            .to_string()
    }

    #[test]
    fn steps_outside_the_bound_are_refused_with_bound_and_value() {
        assert!(message::<Steps>("0").starts_with("must be 1..=150, got 0"));
        assert!(message::<Steps>("151").starts_with("must be 1..=150, got 151"));
        assert!(message::<Steps>("-3").starts_with("must be 1..=150, got -3"));
        assert!(message::<Steps>("2.5").contains("expected an integer within 1..=150"));
        assert_eq!(
            serde_json::from_str::<Steps>("20.0")
                .expect("integral")
                .get(),
            20
        );
    }

    #[test]
    fn dimensions_are_multiples_of_eight() {
        assert!(message::<Dimension>("513").contains("multiple of 8 within 8..=4096, got 513"));
        assert_eq!(
            serde_json::from_str::<Dimension>("512")
                .expect("fits")
                .get(),
            512
        );
    }

    #[test]
    fn guidance_refuses_what_is_not_a_number() {
        assert!(GuidanceScale::new(f64::NAN).is_err());
        assert!(GuidanceScale::new(f64::INFINITY).is_err());
        assert!(GuidanceScale::new(30.1).is_err());
        assert!(
            GuidanceScale::new(-0.0)
                .expect("zero")
                .get()
                .is_sign_positive()
        );
    }

    #[test]
    fn seeds_above_what_javascript_holds_travel_as_strings() {
        let large = Seed(u64::MAX);
        assert_eq!(
            serde_json::to_string(&large).expect("json"),
            "\"18446744073709551615\""
        );
        assert_eq!(
            serde_json::from_str::<Seed>("\"18446744073709551615\"").expect("seed"),
            large
        );
        assert_eq!(
            serde_json::from_str::<Seed>("18446744073709551615").expect("seed"),
            large
        );
        assert_eq!(serde_json::to_string(&Seed(7)).expect("json"), "7");
        assert!(message::<Seed>("-1").contains("unsigned 64-bit"));
        assert!(message::<Seed>("\"+1\"").contains("unsigned 64-bit"));
    }

    #[test]
    fn names_that_could_be_paths_are_refused() {
        for bad in ["../x", "", "a/b", "A", ".hidden", "x\\y", "%2e"] {
            assert!(ModelId::new(bad).is_err(), "{bad:?}");
        }
        assert!(ModelId::new("sd-1.5_fp16").is_ok());
    }

    #[test]
    fn strength_lies_above_zero_and_up_to_one() {
        for bad in [0.0, -0.1, 1.000_1, f64::NAN] {
            assert!(Strength::new(bad).is_err(), "{bad}");
        }
        assert!(Strength::new(f64::MIN_POSITIVE).is_ok());
        assert!(Strength::new(1.0).is_ok());
        assert!(message::<Strength>("0").starts_with("must be above 0 and at most 1, got 0"));
    }

    #[test]
    fn an_image_is_base64_a_data_url_or_an_upload() {
        let kind = |text: &str| {
            let source = ImageSource::new(text).expect("an image");
            match source.kind() {
                ImageSourceKind::Base64(text) => ("base64", text.to_owned()),
                ImageSourceKind::Upload(text) => ("upload", text.to_owned()),
            }
        };
        assert_eq!(kind("iVBORw0="), ("base64", "iVBORw0=".to_owned()));
        assert_eq!(
            kind("DATA:image/png;charset=x;base64,iVBO\nRw0="),
            ("base64", "iVBO\nRw0=".to_owned())
        );
        let id = "upload_01jd0000000000000000000000";
        assert_eq!(kind(id), ("upload", id.to_owned()));
        for bad in [
            "",
            "data:image/png;base64,",
            "data:image/png,abc",
            "data:image/png;base64",
            "https://example.com/x.png",
            "upload_x!",
            "/etc/passwd\0",
        ] {
            assert!(ImageSource::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_prompt_of_white_space_is_empty() {
        assert!(Prompt::new(" \n\t").is_err());
        assert!(Prompt::new("é".repeat(4_000)).is_ok());
        assert!(Prompt::new("é".repeat(4_001)).is_err());
    }
}
