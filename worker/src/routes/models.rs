//! What can draw, and how.

use crate::{app::App, catalog::scheduler_list, error::ApiError};
use axum::{
    Json,
    extract::{Path, State},
};
use scumble_protocol::{Model, ModelId, ModelList, SchedulerList};

/// `GET /v1/models`: the models, the default one first.
pub async fn list(State(app): State<App>) -> Json<ModelList> {
    Json(app.catalog.to_list())
}

/// `GET /v1/models/{model_id}`: one model.
///
/// # Errors
/// 404 if there is none of this id.
pub async fn get(
    State(app): State<App>,
    Path(model_id): Path<String>,
) -> Result<Json<Model>, ApiError> {
    ModelId::new(model_id)
        .ok()
        .and_then(|id| app.catalog.get(&id))
        .map(|model| Json(app.catalog.to_model(model)))
        .ok_or_else(|| {
            ApiError::not_found(format!(
                "there is no such model; there are {}",
                app.catalog.ids()
            ))
        })
}

/// `GET /v1/schedulers`: names and aliases, in the order a menu would show them.
pub async fn schedulers() -> Json<SchedulerList> {
    Json(scheduler_list())
}
