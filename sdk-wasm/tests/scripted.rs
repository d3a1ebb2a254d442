//! The core against a scripted worker: what it sends, what it gives, and when it stops trying.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use futures_util::FutureExt;
use proptest::prelude::*;
use scumble_protocol::sse::{KEEP_ALIVE, encode, encode_done};
use scumble_protocol::{EventData, JobEvent, JobId};
use scumble_sdk::client::{Call, Client};
use scumble_sdk::error::{ClientError, Refusal};
use scumble_sdk::events::{Event, EventStream};
use scumble_sdk::retry::{Limits, STREAM_SILENCE_MS_MAX};
use scumble_sdk::stop::Stop;
use scumble_sdk::transport::{Body, Request, Response, Transport, TransportError};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::pending;
use std::rc::Rc;

const JOB: &str = "job_01jd0000000000000000000000";
const LIMITS: Limits = Limits {
    retries_max: 3,
    reconnects_max: 4,
    timeout_ms: 60_000,
};

/// What the scripted worker does with one request.
#[derive(Clone)]
enum Turn {
    /// No connection.
    Refuse,
    /// No response, ever.
    Hang,
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        chunks: Vec<Chunk>,
    },
}

#[derive(Clone)]
enum Chunk {
    Bytes(Vec<u8>),
    Break,
    Silence,
}

#[derive(Default)]
struct Record {
    turns: VecDeque<Turn>,
    requests: Vec<Request>,
    pauses_ms: Vec<u32>,
}

/// Time passes only where the script hangs: a sleep that races with a scripted answer loses.
#[derive(Clone, Default)]
struct Scripted(Rc<RefCell<Record>>);

struct ScriptedBody(VecDeque<Chunk>);

impl Body for ScriptedBody {
    async fn chunk(&mut self) -> Result<Option<Vec<u8>>, TransportError> {
        match self.0.pop_front() {
            Some(Chunk::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Chunk::Break) => Err(TransportError("reset".to_owned())),
            Some(Chunk::Silence) => pending().await,
            None => Ok(None),
        }
    }
}

impl Transport for Scripted {
    type Body = ScriptedBody;

    async fn send(&self, request: &Request) -> Result<Response<ScriptedBody>, TransportError> {
        let turn = {
            let mut record = self.0.borrow_mut();
            record.requests.push(request.clone());
            record.turns.pop_front()
        };
        match turn.expect("the script has a turn for every request") {
            Turn::Refuse => Err(TransportError("refused".to_owned())),
            Turn::Hang => pending().await,
            Turn::Answer {
                status,
                headers,
                chunks,
            } => Ok(Response {
                status,
                headers,
                body: ScriptedBody(chunks.into()),
            }),
        }
    }

    async fn sleep(&self, duration_ms: u32) {
        self.0.borrow_mut().pauses_ms.push(duration_ms);
    }

    fn random(&self) -> f64 {
        1.0
    }
}

fn worker(turns: impl IntoIterator<Item = Turn>) -> (Rc<Client<Scripted>>, Scripted) {
    let scripted = Scripted::default();
    scripted.0.borrow_mut().turns = turns.into_iter().collect();
    (Rc::new(Client::new(scripted.clone(), LIMITS)), scripted)
}

/// Nothing in the script waits for the outside, so every future is ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    future
        .now_or_never()
        .expect("the scripted world never waits")
}

fn answer(status: u16, body: &str) -> Turn {
    Turn::Answer {
        status,
        headers: Vec::new(),
        chunks: vec![Chunk::Bytes(body.as_bytes().to_vec())],
    }
}

fn with_headers(turn: Turn, extra: &[(&'static str, &str)]) -> Turn {
    let Turn::Answer { status, chunks, .. } = turn else {
        panic!("only an answer has headers")
    };
    let headers = extra.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
    Turn::Answer {
        status,
        headers,
        chunks,
    }
}

fn accepted() -> Turn {
    answer(202, &format!(r#"{{"job_id":"{JOB}","status":"queued"}}"#))
}

fn refusal(status: u16, code: &str) -> Turn {
    answer(
        status,
        &format!(
            r#"{{"error":{{"message":"said so","type":"invalid_request_error","code":"{code}","param":"steps","request_id":"r1"}}}}"#
        ),
    )
}

fn submission() -> Call {
    Call::Submit {
        body: r#"{"prompt":"a fox"}"#.to_owned(),
        idempotency_key: "key-1".to_owned(),
    }
}

fn models() -> Call {
    Call::Read {
        path: "/v1/models".to_owned(),
    }
}

fn refused(error: ClientError) -> Refusal {
    match error {
        ClientError::Refused(refusal) => *refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn job_id() -> JobId {
    JobId::new(JOB).unwrap()
}

fn event(seq: u64, data: EventData) -> JobEvent {
    JobEvent {
        data,
        job_id: job_id(),
        seq,
    }
}

/// A whole job: queued, started, progress 1..=n, cancelled (the shortest final event).
fn history(steps: u32) -> Vec<JobEvent> {
    let mut events = vec![event(
        1,
        EventData::Queued {
            position: 1,
            eta_ms: None,
        },
    )];
    for step in 1..=steps {
        events.push(event(
            u64::from(step) + 1,
            EventData::Progress {
                step,
                total: steps,
                image: 0,
                elapsed_ms: 1,
                eta_ms: 1,
                steps_per_second: 1.5,
            },
        ));
    }
    events.push(event(
        u64::from(steps) + 2,
        EventData::Cancelled { step: steps },
    ));
    events
}

fn text_of(events: &[JobEvent]) -> String {
    events.iter().map(|event| encode(event).unwrap()).collect()
}

fn stream_turn(chunks: Vec<Chunk>) -> Turn {
    Turn::Answer {
        status: 200,
        headers: Vec::new(),
        chunks,
    }
}

fn bytes(text: &str) -> Chunk {
    Chunk::Bytes(text.as_bytes().to_vec())
}

fn drain(stream: &mut EventStream<Scripted>) -> (Vec<u64>, Result<(), ClientError>) {
    let stop = Stop::default();
    let mut seqs = Vec::new();
    loop {
        match now(stream.next(&stop)) {
            Ok(Some(Event { seq, .. })) => seqs.push(seq),
            Ok(None) => return (seqs, Ok(())),
            Err(error) => return (seqs, Err(error)),
        }
    }
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request
        .headers
        .iter()
        .find_map(|(key, value)| (*key == name).then_some(value.as_str()))
}

fn pauses(scripted: &Scripted) -> Vec<u32> {
    // The time limits of attempts and streams are sleeps, too; they are not pauses.
    let limits = [LIMITS.timeout_ms, STREAM_SILENCE_MS_MAX];
    let record = scripted.0.borrow();
    let pauses = record.pauses_ms.iter().copied();
    pauses.filter(|ms| !limits.contains(ms)).collect()
}

#[test]
fn a_busy_or_unreachable_worker_is_tried_again_under_one_idempotency_key() {
    let (client, scripted) = worker([
        Turn::Refuse,
        with_headers(refusal(429, "queue_full"), &[("retry-after", "7")]),
        refusal(503, "model_loading"),
        accepted(),
    ]);
    let job = now(client.call(submission(), &Stop::default())).unwrap();
    assert!(String::from_utf8(job).unwrap().contains(JOB));
    assert_eq!(pauses(&scripted), [500, 7_000, 2_000]);
    let record = scripted.0.borrow();
    assert_eq!(record.requests.len(), 4);
    for request in &record.requests {
        assert_eq!(header(request, "idempotency-key"), Some("key-1"));
        assert_eq!(request.body.as_deref(), Some(r#"{"prompt":"a fox"}"#));
    }
}

#[test]
fn a_submit_whose_answer_was_cut_or_never_came_is_tried_again_under_the_same_key() {
    let cut = stream_turn(vec![bytes(r#"{"job_id":"#), Chunk::Break]);
    let (client, scripted) = worker([cut, Turn::Hang, accepted()]);
    now(client.call(submission(), &Stop::default())).unwrap();
    assert_eq!(scripted.0.borrow().requests.len(), 3);
}

#[test]
fn an_answer_that_was_received_is_never_submitted_again() {
    let (client, scripted) = worker([answer(202, "<html>")]);
    let answer = now(client.call(submission(), &Stop::default())).unwrap();
    assert_eq!(answer, b"<html>");
    assert_eq!(scripted.0.borrow().requests.len(), 1);
}

#[test]
fn what_the_request_is_at_fault_for_is_not_tried_again_and_keeps_the_servers_words() {
    for (status, code) in [
        (400, "invalid_value"),
        (401, "invalid_api_key"),
        (404, "not_found"),
        (409, "idempotency_key_reused"),
    ] {
        let (client, scripted) = worker([refusal(status, code)]);
        let error = now(client.call(submission(), &Stop::default())).unwrap_err();
        let refusal = refused(error);
        assert_eq!(refusal.status, status);
        let body = String::from_utf8(refusal.body).unwrap();
        assert!(body.contains("said so"), "{body}");
        assert_eq!(scripted.0.borrow().requests.len(), 1);
    }
}

#[test]
fn retries_end_after_the_limit_and_when_the_server_says_so() {
    let (client, scripted) = worker(vec![Turn::Refuse; 4]);
    let error = now(client.call(models(), &Stop::default())).unwrap_err();
    assert_eq!(error, ClientError::Connection("refused".to_owned()));
    assert_eq!(scripted.0.borrow().requests.len(), 4);

    let final_no = with_headers(refusal(503, "draining"), &[("x-should-retry", "false")]);
    let (client, scripted) = worker([final_no]);
    now(client.call(models(), &Stop::default())).unwrap_err();
    assert_eq!(scripted.0.borrow().requests.len(), 1);
}

#[test]
fn a_refusal_keeps_what_http_said_beside_it() {
    let busy = with_headers(
        answer(429, "busy"),
        &[
            ("retry-after", "61"),
            ("x-request-id", "r9"),
            ("x-should-retry", "TRUE"),
        ],
    );
    let (client, _) = worker([busy]);
    let error = now(client.call(models(), &Stop::default())).unwrap_err();
    assert_eq!(
        refused(error),
        Refusal {
            status: 429,
            body: b"busy".to_vec(),
            request_id: Some("r9".to_owned()),
            retry_after_ms: Some(61_000),
            should_retry: Some(true),
        }
    );
}

#[test]
fn cancelling_a_job_that_has_ended_is_no_error() {
    let (client, _) = worker([refusal(409, "job_finished")]);
    now(client.call(Call::Cancel { job_id: job_id() }, &Stop::default())).unwrap();
    let (client, _) = worker([refusal(404, "not_found")]);
    now(client.call(Call::Cancel { job_id: job_id() }, &Stop::default())).unwrap_err();
}

#[test]
fn a_submit_under_way_is_finished_when_the_caller_stops_and_no_other_is_made() {
    let stop = Stop::default();
    // Stopped during the first attempt: its answer still arrives, so that the job can be cancelled.
    let (client, _) = worker([accepted()]);
    let submit = client.call(submission(), &stop);
    assert!(now(submit).is_ok());

    let (client, scripted) = worker([]);
    stop.stop();
    let error = now(client.call(submission(), &stop)).unwrap_err();
    assert_eq!(error, ClientError::Aborted);
    assert_eq!(scripted.0.borrow().requests.len(), 0);
}

#[test]
fn a_stream_dropped_at_every_event_gives_each_event_once() {
    let events = history(6);
    for drop_after in 0..events.len() {
        for ending in [None, Some(Chunk::Break), Some(Chunk::Silence)] {
            let mut first = vec![bytes(&text_of(&events[..drop_after]))];
            first.extend(ending);
            // The server repeats one event on resume, as one that lost the header would.
            let rest = &events[drop_after.saturating_sub(1)..];
            let second = vec![bytes(&text_of(rest)), bytes(&encode_done())];
            let (client, scripted) = worker([stream_turn(first), stream_turn(second)]);
            let (seqs, end) = drain(&mut client.events(&job_id(), None));
            end.unwrap();
            assert_eq!(
                seqs,
                (1..=8).collect::<Vec<_>>(),
                "dropped after {drop_after}"
            );
            let record = scripted.0.borrow();
            let expected = (drop_after > 0).then(|| drop_after.to_string());
            assert_eq!(header(&record.requests[0], "last-event-id"), None);
            assert_eq!(
                header(&record.requests[1], "last-event-id"),
                expected.as_deref()
            );
        }
    }
}

#[test]
fn a_stream_split_at_every_byte_gives_the_same_events() {
    let mut text = text_of(&history(3));
    text.insert_str(0, KEEP_ALIVE);
    text.push_str(&encode_done());
    for cut in 0..=text.len() {
        let (head, tail) = text.as_bytes().split_at(cut);
        let chunks = vec![Chunk::Bytes(head.to_vec()), Chunk::Bytes(tail.to_vec())];
        let (client, _) = worker([stream_turn(chunks)]);
        let (seqs, end) = drain(&mut client.events(&job_id(), None));
        end.unwrap();
        assert_eq!(seqs, [1, 2, 3, 4, 5], "cut at {cut}");
    }
}

#[test]
fn resuming_after_a_reload_asks_only_for_what_was_missed() {
    let events = history(4);
    let turn = stream_turn(vec![bytes(&text_of(&events[3..])), bytes(&encode_done())]);
    let (client, scripted) = worker([turn]);
    let (seqs, _) = drain(&mut client.events(&job_id(), Some(3)));
    assert_eq!(seqs, [4, 5, 6]);
    let record = scripted.0.borrow();
    assert_eq!(header(&record.requests[0], "last-event-id"), Some("3"));
    assert_eq!(record.requests[0].path, format!("/v1/jobs/{JOB}/stream"));
}

#[test]
fn a_job_without_further_events_ends_the_stream_at_once() {
    let (client, scripted) = worker([answer(204, "")]);
    let (seqs, end) = drain(&mut client.events(&job_id(), Some(9)));
    end.unwrap();
    assert_eq!(seqs, [0_u64; 0]);
    assert_eq!(scripted.0.borrow().requests.len(), 1);
}

#[test]
fn nothing_is_read_after_the_last_event() {
    let text = text_of(&history(1));
    let (client, _) = worker([stream_turn(vec![bytes(&text), Chunk::Silence])]);
    let (seqs, end) = drain(&mut client.events(&job_id(), None));
    end.unwrap();
    assert_eq!(seqs, [1, 2, 3]);
}

#[test]
fn a_worker_that_is_away_is_waited_for_and_given_up_after_the_limit() {
    let (client, scripted) = worker(vec![Turn::Refuse; 5]);
    let (seqs, end) = drain(&mut client.events(&job_id(), None));
    assert_eq!(seqs, [0_u64; 0]);
    assert_eq!(end, Err(ClientError::Connection("refused".to_owned())));
    assert_eq!(pauses(&scripted), [500, 1_000, 2_000, 4_000]);
}

#[test]
fn every_new_event_renews_the_patience() {
    let events = history(12);
    // Each connection brings one event and breaks: far more connections than the limit allows without news.
    let turns = events
        .iter()
        .map(|event| stream_turn(vec![bytes(&encode(event).unwrap())]));
    let (client, _) = worker(turns);
    let (seqs, end) = drain(&mut client.events(&job_id(), None));
    end.unwrap();
    assert_eq!(seqs.len(), events.len());
}

#[test]
fn a_refused_stream_is_an_error_at_once() {
    for (status, code) in [(401, "invalid_api_key"), (404, "not_found")] {
        let (client, scripted) = worker([refusal(status, code)]);
        let (_, end) = drain(&mut client.events(&job_id(), None));
        assert_eq!(refused(end.unwrap_err()).status, status);
        assert_eq!(scripted.0.borrow().requests.len(), 1);
    }
}

#[test]
fn a_busy_worker_makes_the_stream_wait_as_long_as_it_asks() {
    let busy = with_headers(refusal(503, "draining"), &[("retry-after", "9")]);
    let whole = stream_turn(vec![bytes(&text_of(&history(1)))]);
    let (client, scripted) = worker([busy, whole]);
    let (seqs, end) = drain(&mut client.events(&job_id(), None));
    end.unwrap();
    assert_eq!(seqs, [1, 2, 3]);
    assert_eq!(pauses(&scripted), [9_000]);
}

#[test]
fn garbage_in_place_of_an_event_is_an_error_and_not_a_reconnection() {
    for garbage in [
        "data: {}\n\n",
        "id: x\nevent: progress\ndata: {}\n\n",
        "id: -1\nevent: progress\ndata: {}\n\n",
        "id: 18446744073709551616\nevent: progress\ndata: {}\n\n",
    ] {
        let (client, scripted) = worker([stream_turn(vec![bytes(garbage)])]);
        let (_, end) = drain(&mut client.events(&job_id(), None));
        assert!(
            matches!(end, Err(ClientError::InvalidResponse(_))),
            "{garbage}"
        );
        assert_eq!(scripted.0.borrow().requests.len(), 1);
    }
}

#[test]
fn an_event_of_a_newer_server_is_passed_over_and_its_new_fields_are_kept() {
    let newer = "id: 1\nevent: upscaled\ndata: {}\n\n";
    let wider = "id: 2\nevent: cancelled\ndata: {\"by\":\"you\"}\n\n";
    let (client, _) = worker([stream_turn(vec![bytes(newer), bytes(wider)])]);
    let mut stream = client.events(&job_id(), None);
    let event = now(stream.next(&Stop::default())).unwrap().unwrap();
    assert_eq!(event.seq, 2);
    assert!(event.json.contains(r#""by":"you""#));
}

#[test]
fn stopping_ends_the_stream_wherever_it_is() {
    let stop = Stop::default();
    let (client, _) = worker([stream_turn(vec![
        bytes(&text_of(&history(3)[..2])),
        Chunk::Silence,
    ])]);
    let mut stream = client.events(&job_id(), None);
    now(stream.next(&stop)).unwrap().unwrap();
    now(stream.next(&stop)).unwrap().unwrap();
    stop.stop();
    let error = now(stream.next(&stop)).unwrap_err();
    assert_eq!(error, ClientError::Aborted);
    assert_eq!(now(stream.next(&stop)).unwrap(), None);
}

proptest! {
    #[test]
    fn however_a_stream_is_cut_and_repeated_each_event_comes_once_and_in_order(
        cuts in proptest::collection::vec((0_usize..14, 0_usize..4), 0..5),
    ) {
        let events = history(10);
        let mut sent = 0_usize;
        let mut turns = Vec::new();
        for (upto, back) in cuts {
            let from = sent.saturating_sub(back);
            let to = upto.clamp(from, events.len() - 1);
            // A cut in the middle of an event: its half must not be given.
            let mut text = text_of(&events[from..to]);
            text.push_str("id: 99\nevent: prog");
            turns.push(stream_turn(vec![bytes(&text), Chunk::Break]));
            sent = sent.max(to);
        }
        turns.push(stream_turn(vec![bytes(&text_of(&events[sent.saturating_sub(1)..]))]));
        let (_, scripted) = worker(turns);
        let client = Rc::new(Client::new(scripted, Limits { reconnects_max: 100, ..LIMITS }));
        let (seqs, end) = drain(&mut client.events(&job_id(), None));
        prop_assert!(end.is_ok());
        prop_assert_eq!(seqs, (1..=12).collect::<Vec<_>>());
    }
}
