//! What the TypeScript face calls. Values cross as text or bytes.

use crate::client::{Call, Client as CoreClient};
use crate::error::ClientError;
use crate::events::EventStream as CoreEventStream;
use crate::fetch::Fetch;
use crate::retry::Limits;
use crate::stop::Stop as CoreStop;
use js_sys::{Array, Promise, Uint8Array};
use scumble_protocol::JobId;
use std::cell::RefCell;
use std::rc::Rc;
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};
use wasm_bindgen_futures::future_to_promise;

thread_local! {
    static PANIC_LISTENER: RefCell<Option<js_sys::Function>> = const { RefCell::new(None) };
}

/// Calls `listener` with the message when this module panics: the promises that were under way will never settle by
/// themselves.
#[wasm_bindgen(js_name = "onPanic")]
pub fn on_panic(listener: js_sys::Function) {
    PANIC_LISTENER.set(Some(listener));
    std::panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("no message");
        PANIC_LISTENER.with_borrow(|listener| {
            if let Some(listener) = listener {
                // A listener that throws has nobody left to tell.
                listener
                    .call1(&JsValue::UNDEFINED, &JsValue::from_str(message))
                    .ok();
            }
        });
    }));
}

/// Panics, so that the packaging tests can see what a page would see.
#[wasm_bindgen(js_name = "panicForTest")]
pub async fn panic_for_test() {
    #[expect(clippy::panic, reason = "that is what it is for")]
    {
        panic!("asked to");
    }
}

/// A caller's wish to stop.
#[wasm_bindgen]
#[derive(Default)]
pub struct Stop(CoreStop);

#[wasm_bindgen]
impl Stop {
    /// Not stopped yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every call that was given this to stop.
    pub fn stop(&self) {
        self.0.stop();
    }
}

/// A worker, as the client sees it.
#[wasm_bindgen]
pub struct Client(Rc<CoreClient<Fetch>>);

#[wasm_bindgen]
impl Client {
    /// `headers`: lines of name, colon, value.
    #[wasm_bindgen(constructor)]
    pub fn new(
        base_url: String,
        headers: &str,
        retries_max: u32,
        reconnects_max: u32,
        timeout_ms: u32,
    ) -> Self {
        let headers = headers
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self(Rc::new(CoreClient::new(
            Fetch { base_url, headers },
            Limits {
                retries_max,
                reconnects_max,
                timeout_ms,
            },
        )))
    }

    /// Submits a job; gives the answer's bytes.
    pub fn submit(&self, body: String, idempotency_key: String, stop: &Stop) -> Promise {
        self.call(
            Call::Submit {
                body,
                idempotency_key,
            },
            stop,
        )
    }

    /// Reads a document or an image; gives its bytes.
    pub fn read(&self, path: String, stop: &Stop) -> Promise {
        self.call(Call::Read { path }, stop)
    }

    /// Cancels a job; a job that has ended is left as it is.
    pub fn cancel(&self, job_id: String, stop: &Stop) -> Result<Promise, JsValue> {
        let job_id = parse_job_id(job_id)?;
        Ok(self.call(Call::Cancel { job_id }, stop))
    }

    /// A job's events, those after `after` only where it is given.
    pub fn events(&self, job_id: String, after: Option<f64>) -> Result<EventStream, JsValue> {
        let job_id = parse_job_id(job_id)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the cast saturates; sequence numbers are small and not negative"
        )]
        let after = after.map(|seq| seq as u64);
        Ok(EventStream(Rc::clone(&self.0).events(&job_id, after)))
    }
}

impl Client {
    /// The one place that makes a promise of a call: each would be a compiled state machine of its own.
    fn call(&self, call: Call, stop: &Stop) -> Promise {
        let client = Rc::clone(&self.0);
        let stop = stop.0.clone();
        future_to_promise(async move {
            match client.call(call, &stop).await {
                Ok(bytes) => Ok(Uint8Array::from(bytes.as_slice()).into()),
                Err(error) => Err(thrown(error)),
            }
        })
    }
}

/// A job's events, once and in order.
#[wasm_bindgen]
pub struct EventStream(CoreEventStream<Fetch>);

#[wasm_bindgen]
impl EventStream {
    /// The next event as JSON; `undefined` after the last one. Not to be called again before it settles.
    pub async fn next(&mut self, stop: &Stop) -> Result<Option<String>, JsValue> {
        let stop = stop.0.clone();
        let event = self.0.next(&stop).await.map_err(thrown)?;
        Ok(event.map(|event| event.json))
    }
}

fn parse_job_id(job_id: String) -> Result<JobId, JsValue> {
    JobId::new(job_id).map_err(|_| failure("invalid_job_id", JsValue::UNDEFINED).into())
}

/// What calls reject with: `[kind, text]`, or `["refused", body, status, request id, retry after ms]`.
fn thrown(error: ClientError) -> JsValue {
    match error {
        ClientError::Aborted => failure("aborted", JsValue::UNDEFINED),
        ClientError::Timeout => failure("timeout", JsValue::UNDEFINED),
        ClientError::Connection(reason) => failure("connection_failed", JsValue::from_str(&reason)),
        ClientError::InvalidResponse(what) => failure("invalid_response", JsValue::from_str(what)),
        ClientError::Refused(refusal) => {
            let body = Uint8Array::from(refusal.body.as_slice());
            let array = failure("refused", body.into());
            array.push(&JsValue::from(refusal.status));
            array.push(&JsValue::from(refusal.request_id));
            array.push(&JsValue::from(refusal.retry_after_ms));
            array
        }
    }
    .into()
}

fn failure(kind: &str, text: JsValue) -> Array {
    Array::of2(&JsValue::from_str(kind), &text)
}
