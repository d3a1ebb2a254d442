//! For probes: alive, and ready to draw.

use crate::{app::App, engine::EngineStatus, error::ApiError};
use axum::{Json, extract::State};
use scumble_protocol::ErrorCode;
use serde::Serialize;

/// What a healthy server says.
#[derive(Debug, Serialize)]
pub struct Health {
    status: &'static str,
}

/// `GET /health`: the process turns.
pub async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// `GET /ready`: a model is loaded and the queue takes jobs.
///
/// # Errors
/// 503 with the reason while it loads or stops.
pub async fn ready(State(app): State<App>) -> Result<Json<Health>, ApiError> {
    if app.shutdown.is_draining() {
        return Err(ApiError::draining());
    }
    let status = app.engine.borrow().clone();
    match status {
        EngineStatus::Ready => Ok(Json(Health { status: "ready" })),
        EngineStatus::Loading {
            model,
            loaded,
            total,
        } => Err(ApiError::new(
            ErrorCode::ModelLoading,
            format!("model {model} is loading: {loaded} of {total} are loaded"),
        )
        .with_retry_after(1)),
        EngineStatus::Failed(_) => Err(ApiError::internal()),
    }
}
