//! The API's table of contents, and the order of the layers around it.

use crate::{app::App, auth, error, origin, request_scope, routes};
use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
    routing::{get, post},
};
use tower_http::catch_panic::CatchPanicLayer;

/// Everything that the server answers to.
pub fn router(app: App) -> Router {
    let routes = Router::new()
        .route("/v1/jobs", post(routes::jobs::submit))
        .route(
            "/v1/jobs/{job_id}",
            get(routes::jobs::get).delete(routes::jobs::cancel),
        )
        .route("/v1/jobs/{job_id}/stream", get(routes::events::stream))
        .route("/v1/jobs/{job_id}/images/{index}", get(routes::images::get))
        .route("/v1/uploads", post(routes::uploads::create))
        .route(
            "/v1/uploads/{upload_id}",
            get(routes::uploads::get).delete(routes::uploads::delete),
        )
        .route("/v1/png-info", post(routes::png_info::read))
        .route("/v1/models", get(routes::models::list))
        .route("/v1/models/{model_id}", get(routes::models::get))
        .route("/v1/loras", get(routes::loras::list))
        .route("/v1/schedulers", get(routes::models::schedulers))
        .route("/v1/tokenize", post(routes::tokenize::count))
        .route("/health", get(routes::health::health))
        .route("/ready", get(routes::health::ready))
        .fallback(routes::ui::file);
    layers(routes, app)
}

/// The last layer added is the first that a request meets: its id; a panic's way out; where it comes from; what
/// browsers are told; who asks. Body limits belong to the handlers that read one.
pub fn layers(routes: Router<App>, app: App) -> Router {
    routes
        .layer(from_fn_with_state(app.clone(), auth::require_key))
        .layer(origin::cors(&app))
        .layer(from_fn_with_state(app.clone(), origin::guard))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(from_fn(request_scope::run))
        .with_state(app)
}
