//! The LoRAs that jobs can name.

use crate::app::App;
use axum::{Json, extract::State};
use scumble_protocol::LoraList;

/// `GET /v1/loras`: the LoRAs by name, with what the headers of their files say.
pub async fn list(State(app): State<App>) -> Json<LoraList> {
    Json(app.loras.to_list())
}
