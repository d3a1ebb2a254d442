//! Server-Sent Events, both ways, without I/O (WHATWG HTML, section 9.2).

use crate::{JobEvent, limits::SSE_LINE_BYTES_MAX};

/// The last message of every stream, as OpenAI's streams end.
pub const DONE: &str = "[DONE]";

/// Writes one event: `id`, `event` and a single `data` line (JSON has no raw line breaks).
///
/// # Errors
/// If the event cannot be written as JSON: only for a number that JSON does not have.
pub fn encode(event: &JobEvent) -> Result<String, serde_json::Error> {
    let data = serde_json::to_string(event)?;
    Ok(format!(
        "id: {}\nevent: {}\ndata: {data}\n\n",
        event.seq,
        event.data.name()
    ))
}

/// The closing `data: [DONE]`.
#[must_use]
pub fn encode_done() -> String {
    format!("data: {DONE}\n\n")
}

/// A comment, which readers skip: keeps proxies from closing an idle stream.
pub const KEEP_ALIVE: &str = ": keep-alive\n\n";

/// One dispatched message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The stream's last event id after this message; empty when none was sent yet.
    pub id: String,
    /// The event's name; `message` when none was given.
    pub event: String,
    /// The data lines, joined by line feeds.
    pub data: String,
}

/// A line was longer than [`SSE_LINE_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line of the event stream is longer than {SSE_LINE_BYTES_MAX} bytes")]
pub struct LineTooLong;

/// Takes bytes as they arrive, cut anywhere, and gives whole messages.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    after_carriage_return: bool,
    started: bool,
    id: String,
    event: String,
    data: Option<String>,
}

impl Decoder {
    /// A decoder at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and gives the messages that they complete.
    ///
    /// # Errors
    /// If a line has no end within the limit; the stream must be given up.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Message>, LineTooLong> {
        let mut messages = Vec::new();
        for &byte in bytes {
            let was_carriage_return = std::mem::take(&mut self.after_carriage_return);
            match byte {
                b'\n' if was_carriage_return => {}
                b'\n' | b'\r' => {
                    self.after_carriage_return = byte == b'\r';
                    messages.extend(self.end_line());
                }
                _ if self.line.len() >= SSE_LINE_BYTES_MAX => return Err(LineTooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(messages)
    }

    fn end_line(&mut self) -> Option<Message> {
        let bytes = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&bytes);
        // A byte order mark is allowed once, before the first line.
        let text = if self.started {
            &*text
        } else {
            text.trim_start_matches('\u{feff}')
        };
        self.started = true;
        if text.is_empty() {
            return self.dispatch();
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                none => *none = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Message> {
        let event = std::mem::take(&mut self.event);
        let data = self.data.take()?;
        Some(Message {
            id: self.id.clone(),
            event: if event.is_empty() {
                "message".to_owned()
            } else {
                event
            },
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventData, JobId};
    use proptest::prelude::*;

    fn cancelled(seq: u64) -> JobEvent {
        JobEvent {
            data: EventData::Cancelled { step: 4 },
            job_id: JobId::new("job_01jd0000000000000000000000").expect("id"),
            seq,
        }
    }

    #[test]
    fn an_event_reads_well_in_a_terminal() {
        assert_eq!(
            encode(&cancelled(9)).expect("json"),
            "id: 9\nevent: cancelled\ndata: {\"event\":\"cancelled\",\"step\":4,\"job_id\":\"job_01jd0000000000000000000000\",\"seq\":9}\n\n"
        );
    }

    #[test]
    fn line_ends_of_every_kind_fields_without_colon_and_comments_are_understood() {
        let mut decoder = Decoder::new();
        let messages = decoder
            .push("\u{feff}: hi\r\nid:1\r\nevent: a\r\ndata: x\r\ndata:y\r\n\r\ndata\n\nid: 2\rdata:  z\r\rretry: 5\n\n".as_bytes())
            .expect("short lines");
        let seen: Vec<_> = messages
            .iter()
            .map(|m| (m.id.as_str(), m.event.as_str(), m.data.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                ("1", "a", "x\ny"),
                ("1", "message", ""),
                ("2", "message", " z")
            ]
        );
    }

    #[test]
    fn an_id_with_nul_is_ignored_and_a_block_without_data_is_not_dispatched() {
        let mut decoder = Decoder::new();
        let messages = decoder
            .push(b"id: 7\ndata: a\n\nid: 8\0\ndata: b\n\nevent: lost\n\n")
            .expect("lines");
        let ids: Vec<_> = messages.iter().map(|m| m.id.as_str()).collect();
        assert_eq!(ids, ["7", "7"]);
    }

    proptest! {
        #[test]
        fn a_stream_cut_anywhere_gives_the_same_messages(
            cuts in proptest::collection::vec(1_usize..40, 0..60),
            count in 1_u64..6,
        ) {
            let mut stream: String = (1..=count).map(|seq| encode(&cancelled(seq)).expect("json")).collect();
            stream.push_str(KEEP_ALIVE);
            stream.push_str(&encode_done());
            let whole = Decoder::new().push(stream.as_bytes()).expect("lines");
            prop_assert_eq!(whole.len() as u64, count + 1);
            let mut decoder = Decoder::new();
            let mut pieces = Vec::new();
            let mut rest = stream.as_bytes();
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                pieces.extend(decoder.push(head).expect("lines"));
                rest = tail;
            }
            pieces.extend(decoder.push(rest).expect("lines"));
            prop_assert_eq!(pieces, whole);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            Decoder::new().push(&bytes).expect("short lines");
        }
    }
}
