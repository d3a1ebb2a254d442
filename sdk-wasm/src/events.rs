//! A job's events as one stream, however often the connection breaks.

use crate::client::{Client, job_path, unless_stopped};
use crate::error::ClientError;
use crate::retry::{self, STREAM_SILENCE_MS_MAX};
use crate::stop::Stop;
use crate::transport::{Body, Method, Request, Transport, TransportError};
use futures_util::future::{Either, select};
use scumble_protocol::JobId;
use scumble_protocol::sse::{DONE, Decoder, Message};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;

/// One event: what the core needs of it, and all of it as the server wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place in the job's history.
    pub seq: u64,
    /// Whether nothing follows it.
    pub is_final: bool,
    /// The event as JSON, fields that this version does not know included.
    pub json: String,
}

/// Gives every event of a job once and in order: connect → stream → back off → resume → end.
#[derive(Debug)]
pub struct EventStream<T: Transport> {
    client: Rc<Client<T>>,
    path: String,
    last_seq: Option<u64>,
    /// Connections in a row that brought nothing new.
    barren: u32,
    state: State<T::Body>,
}

#[derive(Debug)]
enum State<B> {
    Connect,
    Streaming(Streaming<B>),
    BackOff(Box<ClientError>),
    End,
}

#[derive(Debug)]
struct Streaming<B> {
    body: B,
    decoder: Decoder,
    ready: VecDeque<Message>,
    /// Whether this connection has brought bytes before.
    alive: bool,
}

/// What a message of the stream means.
enum Meaning {
    Event(Event),
    Nothing,
    Done,
}

impl<T: Transport> EventStream<T> {
    pub(crate) fn new(client: Rc<Client<T>>, job_id: &JobId, after: Option<u64>) -> Self {
        Self {
            client,
            path: job_path(job_id, "/stream"),
            last_seq: after,
            barren: 0,
            state: State::Connect,
        }
    }

    /// The next event; `None` after the last one. If the returned future is dropped before it is done, the stream
    /// has ended.
    ///
    /// # Errors
    /// If the server refuses the stream, says something that is not the contract, brings nothing new in as many
    /// connections as the limits allow, or the caller stops. The stream has ended then.
    pub async fn next(&mut self, stop: &Stop) -> Result<Option<Event>, ClientError> {
        loop {
            self.state = match std::mem::replace(&mut self.state, State::End) {
                State::Connect => unless_stopped(stop, self.connect()).await?,
                State::Streaming(mut streaming) => match streaming.ready.pop_front() {
                    Some(message) => match self.understand(message)? {
                        Meaning::Event(event) => {
                            if !event.is_final {
                                self.state = State::Streaming(streaming);
                            }
                            return Ok(Some(event));
                        }
                        Meaning::Nothing => State::Streaming(streaming),
                        Meaning::Done => State::End,
                    },
                    None => unless_stopped(stop, self.receive(streaming)).await??,
                },
                State::BackOff(error) => {
                    unless_stopped(stop, self.back_off(*error)).await??;
                    State::Connect
                }
                State::End => return Ok(None),
            };
        }
    }

    async fn connect(&self) -> State<T::Body> {
        let mut request = Request::new(Method::Get, self.path.as_str());
        request
            .headers
            .push(("accept", "text/event-stream".to_owned()));
        if let Some(seq) = self.last_seq {
            request.headers.push(("last-event-id", seq.to_string()));
        }
        match self.client.timed(self.client.open(&request)).await {
            // No content: the job has ended and `last_seq` was its last event.
            Ok(response) if response.status == 204 => State::End,
            Ok(response) => State::Streaming(Streaming {
                body: response.body,
                decoder: Decoder::new(),
                ready: VecDeque::new(),
                alive: false,
            }),
            Err(error) => State::BackOff(Box::new(error)),
        }
    }

    async fn receive(
        &mut self,
        mut streaming: Streaming<T::Body>,
    ) -> Result<State<T::Body>, ClientError> {
        let chunk = {
            let chunk = pin!(streaming.body.chunk());
            let silence = pin!(self.client.transport.sleep(STREAM_SILENCE_MS_MAX));
            match select(chunk, silence).await {
                Either::Left((chunk, _)) => chunk,
                Either::Right(((), _)) => {
                    Err(TransportError("the event stream fell silent".to_owned()))
                }
            }
        };
        Ok(match chunk {
            Ok(Some(bytes)) => {
                let messages = streaming.decoder.push(&bytes).map_err(|_| {
                    ClientError::InvalidResponse("a line of the event stream has no end")
                })?;
                if messages.is_empty() && std::mem::replace(&mut streaming.alive, true) {
                    // A keep-alive on an open stream: the server is there, there is just no news.
                    self.barren = 0;
                }
                streaming.ready.extend(messages);
                State::Streaming(streaming)
            }
            // A stream that ends before its last event was cut: by the network, a restart, or for reading slowly.
            Ok(None) => broken("the event stream ended before the job did"),
            Err(TransportError(reason)) => broken(&reason),
        })
    }

    async fn back_off(&mut self, error: ClientError) -> Result<(), ClientError> {
        let transport = &self.client.transport;
        let pause = error
            .failure()
            .and_then(|failure| retry::pause_ms(failure, self.barren, transport.random()));
        match pause {
            Some(pause_ms) if self.barren < self.client.limits.reconnects_max => {
                transport.sleep(pause_ms).await;
                self.barren += 1;
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn understand(&mut self, message: Message) -> Result<Meaning, ClientError> {
        if message.data == DONE {
            return Ok(Meaning::Done);
        }
        let Ok(seq) = message.id.parse::<u64>() else {
            return Err(ClientError::InvalidResponse(
                "an event has no sequence number",
            ));
        };
        if self.last_seq.is_some_and(|last| seq <= last) {
            return Ok(Meaning::Nothing);
        }
        self.last_seq = Some(seq);
        self.barren = 0;
        // A newer server may send events that this client has no name for: they are passed over.
        Ok(
            match KNOWN.iter().find(|(name, _)| *name == message.event) {
                Some((_, is_final)) => Meaning::Event(Event {
                    seq,
                    is_final: *is_final,
                    json: message.data,
                }),
                None => Meaning::Nothing,
            },
        )
    }
}

/// The protocol's events, and whether nothing follows them. The core knows events by their SSE fields alone and passes the
/// JSON on: a parser for it would more than double what a page downloads, and the page's engine has one.
const KNOWN: [(&str, bool); 8] = [
    ("queued", false),
    ("started", false),
    ("progress", false),
    ("preview", false),
    ("image", false),
    ("complete", true),
    ("error", true),
    ("cancelled", true),
];

fn broken<B>(reason: &str) -> State<B> {
    State::BackOff(Box::new(ClientError::Connection(reason.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::KNOWN;
    use scumble_protocol::EventData;

    #[test]
    fn the_protocol_agrees_on_names_and_ends() {
        for (name, is_final) in KNOWN {
            let fields = r#""position":1,"model":"m","device":"cpu","total":1,"seed":1,"step":1,"image":0,
                "elapsed_ms":1,"eta_ms":1,"steps_per_second":1.0,"b64_json":"","mime_type":"","width":8,"height":8,
                "index":0,"url":"","images":[],"timings":{"queue_ms":1,"encode_ms":1,"denoise_ms":1,"decode_ms":1,
                "total_ms":1},"error":{"message":"","type":"server_error","code":"internal_error"}"#;
            let data: EventData =
                serde_json::from_str(&format!(r#"{{"event":"{name}",{fields}}}"#)).expect("known");
            assert_eq!(data.name(), name);
            assert_eq!(data.is_final(), is_final, "{name}");
        }
    }
}
