//! The crate's one error type.

use std::fmt;

/// What kind of thing went wrong; callers branch on this, never on the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The report callback asked to stop; `step` is the last step that was finished (0 before the first).
    Stopped {
        /// Steps of the current image that were finished.
        step: usize,
    },
    /// A parameter of the request is outside what the model can do.
    InvalidParameter,
    /// The prompt cannot be tokenized.
    InvalidPrompt,
    /// A file that the model needs is not there.
    MissingFile,
    /// A file exists but cannot be read.
    Io,
    /// A JSON or tokenizer file is malformed or contradicts itself.
    InvalidConfig,
    /// A weights file is damaged or does not hold what the config asks for.
    InvalidWeights,
    /// The files are sound but ask for something that this crate does not implement.
    UnsupportedModel,
    /// A LoRA is sound but was made for another model.
    LoraMismatch,
    /// The model produced NaN or infinity.
    NotFinite,
    /// The device cannot be opened.
    Device,
    /// Host or device memory ran out.
    OutOfMemory,
    /// A tensor operation failed: a bug here or in the driver.
    Internal,
}

/// An error with a kind for code and a sentence for people.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub(crate) fn config(file: &str, message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::InvalidConfig, format!("{file}: {message}"))
    }

    pub(crate) fn unsupported(file: &str, message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::UnsupportedModel, format!("{file}: {message}"))
    }

    pub(crate) fn weights(file: &str, message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::InvalidWeights, format!("{file}: {message}"))
    }

    pub(crate) fn missing(file: &str, message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::MissingFile, format!("{file}: {message}"))
    }

    pub(crate) fn parameter(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidParameter, message)
    }

    /// What kind of error this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        // candle has no variant for exhausted memory; the drivers' texts are all there is to go by.
        let message = error.to_string();
        let lower = message.to_lowercase();
        let kind = if lower.contains("out of memory") || lower.contains("out_of_memory") {
            ErrorKind::OutOfMemory
        } else {
            ErrorKind::Internal
        };
        // A captured backtrace follows the first line and is of no use to a user.
        let first_line = message.lines().next().unwrap_or_default();
        Self::new(kind, format!("tensor operation failed: {first_line}"))
    }
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
