//! How long a prompt is to the model that reads it.

use crate::{InvalidRequest, ModelId, NegativePrompt, request};
use serde::{Deserialize, Serialize};

/// The body of `POST /v1/tokenize`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "ts",
    derive(ts_rs::TS),
    ts(export_to = "protocol.ts", optional_fields = nullable)
)]
#[serde(deny_unknown_fields)]
pub struct TokenizeRequest {
    /// What is counted: a prompt or a negative prompt, at most 4000 characters. May be empty: it is being typed.
    #[cfg_attr(feature = "ts", ts(type = "string"))]
    pub prompt: NegativePrompt,
    /// Which model reads it; the worker's first when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelId>,
}

impl TokenizeRequest {
    /// Parses the body of `POST /v1/tokenize`.
    ///
    /// # Errors
    /// Names the first field at fault in `param`, with its bound and the value.
    pub fn from_json(body: &[u8]) -> Result<Self, InvalidRequest> {
        request::parse(body)
    }
}

/// How many tokens a prompt takes: what `POST /v1/tokenize` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS), ts(export_to = "protocol.ts"))]
pub struct TokenCount {
    /// Which model reads it.
    pub model: ModelId,
    /// Tokens of the whole prompt; brackets, weights and `BREAK` are none.
    pub tokens: u32,
    /// The same for each chunk that the text encoder reads, at least one. They add up to `tokens`.
    pub chunks: Vec<u32>,
    /// How many of them fit in one chunk.
    pub chunk_tokens: u32,
    /// Always false: a longer prompt is read in more chunks.
    pub truncated: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;

    #[test]
    fn only_the_prompt_is_required_and_it_may_be_empty() {
        let request = TokenizeRequest::from_json(br#"{"prompt":""}"#).expect("valid");
        assert_eq!(request.prompt.as_str(), "");
        assert_eq!(request.model, None);
        for (body, code, param) in [
            ("{}", ErrorCode::MissingField, "prompt"),
            (r#"{"prompt":1}"#, ErrorCode::InvalidValue, "prompt"),
            (
                r#"{"prompt":"","model":"A B"}"#,
                ErrorCode::InvalidValue,
                "model",
            ),
            (
                r#"{"prompt":"","text":""}"#,
                ErrorCode::UnknownField,
                "text",
            ),
        ] {
            let object = TokenizeRequest::from_json(body.as_bytes())
                .expect_err("refused")
                .into_object();
            assert_eq!(object.code, code, "{body}");
            assert_eq!(object.param.as_deref(), Some(param), "{body}");
        }
    }
}
