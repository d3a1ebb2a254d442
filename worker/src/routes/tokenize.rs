//! How long a prompt is.

use super::body::{media_type, receive, unsupported};
use crate::{app::App, error::ApiError, metadata::take_loras, normalize};
use axum::{
    Json,
    extract::{FromRequest, Request, State},
};
use scumble_diffusion::ErrorKind;
use scumble_protocol::{
    ErrorCode, ErrorObject, TokenCount, TokenizeRequest, limits::JOB_TEXT_BYTES_MAX,
};
use tokio::task::spawn_blocking;

/// `POST /v1/tokenize`: how many tokens a prompt takes and in which chunks the model reads it.
///
/// # Errors
/// 400 with `param` for an unknown model, or a prompt of more chunks than are read; 413, 415.
pub async fn count(
    State(app): State<App>,
    TokenizeBody(request): TokenizeBody,
) -> Result<Json<TokenCount>, ApiError> {
    let counted = spawn_blocking(move || counted(&app, &request)).await;
    let count = counted.map_err(|error| {
        tracing::error!(%error, "counting tokens panicked");
        ApiError::internal()
    })??;
    Ok(Json(count))
}

fn counted(app: &App, request: &TokenizeRequest) -> Result<TokenCount, ErrorObject> {
    let model = normalize::model(request.model.as_ref(), &app.catalog)?;
    // LoRAs named in a prompt are taken out of it before it is drawn.
    let (text, _) = take_loras(request.prompt.as_str());
    let count = app
        .tokenizers
        .get(model)
        .and_then(|tokenizer| tokenizer.tokenize(&text))
        .map_err(|error| match error.kind() {
            ErrorKind::InvalidPrompt => {
                ErrorObject::new(ErrorCode::InvalidValue, error.to_string()).with_param("prompt")
            }
            _ => {
                tracing::error!(model = %model.id, %error, "the model's tokenizer cannot be read");
                let message = "the model's tokenizer cannot be read; the server's log says why";
                ErrorObject::new(ErrorCode::InternalError, message)
            }
        })?;
    let to_u32 = |tokens: usize| u32::try_from(tokens).unwrap_or(u32::MAX);
    Ok(TokenCount {
        model: model.id.clone(),
        tokens: to_u32(count.tokens),
        chunks: count.chunks.into_iter().map(to_u32).collect(),
        chunk_tokens: to_u32(count.chunk_tokens),
        truncated: false,
    })
}

/// A parsed body.
#[derive(Debug)]
pub struct TokenizeBody(TokenizeRequest);

impl FromRequest<App> for TokenizeBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        if media_type(request.headers()) != "application/json" {
            return Err(unsupported("Content-Type must be application/json"));
        }
        let received = receive(app, request.into_body(), JOB_TEXT_BYTES_MAX).await?;
        Ok(Self(TokenizeRequest::from_json(&received.bytes)?))
    }
}
