//! The transport of browsers, workers and Node: the global `fetch`.

use crate::transport::{Body, HEADERS_READ, Method, Request, Response, Transport, TransportError};
use gloo_net::http::RequestBuilder;
use js_sys::{Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, ReadableStreamDefaultReader};

/// `fetch` to one worker.
pub(crate) struct Fetch {
    /// No slash at the end.
    pub(crate) base_url: String,
    /// Sent with every request: the key, and what the caller added.
    pub(crate) headers: Vec<(String, String)>,
}

impl Transport for Fetch {
    type Body = FetchBody;

    async fn send(&self, request: &Request) -> Result<Response<FetchBody>, TransportError> {
        // Aborts the fetch when this future, or later the body, is dropped.
        let guard = AbortOnDrop(AbortController::new().map_err(transport_error)?);
        let url = format!("{}{}", self.base_url, request.path);
        let mut builder = RequestBuilder::new(&url)
            .method(match request.method {
                Method::Get => gloo_net::http::Method::GET,
                Method::Post => gloo_net::http::Method::POST,
                Method::Delete => gloo_net::http::Method::DELETE,
            })
            .abort_signal(Some(&guard.0.signal()));
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let prepared = match &request.body {
            Some(body) => builder.body(body.as_str()),
            None => builder.build(),
        };
        let response = prepared
            .map_err(gloo_error)?
            .send()
            .await
            .map_err(gloo_error)?;
        let headers = response.headers();
        let headers = HEADERS_READ
            .into_iter()
            .filter_map(|name| Some((name, headers.get(name)?)))
            .collect();
        let reader = match response.body() {
            Some(stream) => {
                Some(ReadableStreamDefaultReader::new(&stream).map_err(transport_error)?)
            }
            None => None,
        };
        Ok(Response {
            status: response.status(),
            headers,
            body: FetchBody {
                reader,
                _guard: guard,
            },
        })
    }

    async fn sleep(&self, duration_ms: u32) {
        gloo_timers::future::TimeoutFuture::new(duration_ms).await;
    }

    fn random(&self) -> f64 {
        js_sys::Math::random()
    }
}

/// The body of a fetched response.
pub(crate) struct FetchBody {
    /// `None` for a response without a body.
    reader: Option<ReadableStreamDefaultReader>,
    _guard: AbortOnDrop,
}

impl Body for FetchBody {
    async fn chunk(&mut self) -> Result<Option<Vec<u8>>, TransportError> {
        let Some(reader) = &self.reader else {
            return Ok(None);
        };
        let result = JsFuture::from(reader.read())
            .await
            .map_err(transport_error)?;
        let done = Reflect::get(&result, &JsValue::from_str("done")).map_err(transport_error)?;
        if done.is_truthy() {
            return Ok(None);
        }
        let value = Reflect::get(&result, &JsValue::from_str("value")).map_err(transport_error)?;
        // By the stream's contract; a check with `instanceof` would fail across realms (frames, jsdom).
        Ok(Some(value.unchecked_into::<Uint8Array>().to_vec()))
    }
}

struct AbortOnDrop(AbortController);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn gloo_error(error: gloo_net::Error) -> TransportError {
    match error {
        gloo_net::Error::JsError(error) => TransportError(error.message),
        other => TransportError(other.to_string()),
    }
}

fn transport_error(value: JsValue) -> TransportError {
    let message = value
        .dyn_ref::<js_sys::Error>()
        .map(|error| String::from(error.message()))
        .or_else(|| value.as_string());
    TransportError(message.unwrap_or_else(|| "the connection broke".to_owned()))
}
