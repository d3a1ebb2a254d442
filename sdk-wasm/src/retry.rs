//! What is tried again, and when. The rules are data; nothing else in the crate decides about retries.

use scumble_protocol::limits;

/// Statuses that may pass by themselves: too many requests, and a worker or proxy that is not ready.
pub const STATUSES_RETRIED: [u16; 4] = [429, 502, 503, 504];

/// First pause between two attempts, in milliseconds; doubles with every attempt.
pub const BACKOFF_MS_MIN: u32 = 500;

/// Longest pause that the client chooses by itself, in milliseconds.
pub const BACKOFF_MS_MAX: u32 = 8_000;

/// Longest `Retry-After` that the client waits for, in milliseconds; a longer one goes to the caller as an error.
pub const RETRY_AFTER_MS_MAX: u32 = 60_000;

/// Longest silence on an event stream, in milliseconds: three of the server's keep-alives.
pub const STREAM_SILENCE_MS_MAX: u32 = 45_000;

/// Most bytes of one answer that is not a stream: the largest image, as the protocol bounds it.
pub const ANSWER_BYTES_MAX: usize = limits::SSE_LINE_BYTES_MAX;

/// How often a call is tried again, and how long one attempt may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// More attempts after the first, for calls that have one answer.
    pub retries_max: u32,
    /// Reconnections in a row that bring nothing new, for event streams.
    pub reconnects_max: u32,
    /// Time for one attempt, in milliseconds; for a stream, up to the response's head.
    pub timeout_ms: u32,
}

/// What went wrong with an attempt, as far as the rules care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No response, a broken one, or none in time.
    Connection,
    /// A response that is not a success.
    Status {
        /// The HTTP status.
        status: u16,
        /// `x-should-retry`, which overrules the table.
        should_retry: Option<bool>,
        /// `Retry-After`, in milliseconds.
        retry_after_ms: Option<u32>,
    },
}

/// How long to wait before trying again, in milliseconds; `None` if trying again cannot help.
///
/// `attempt` counts from 0; `random` is in 0..1 and spreads clients that failed together over half the pause.
#[must_use]
pub fn pause_ms(failure: Failure, attempt: u32, random: f64) -> Option<u32> {
    match failure {
        Failure::Connection => Some(backoff_ms(attempt, random)),
        Failure::Status {
            status,
            should_retry,
            retry_after_ms,
        } => {
            let wanted = should_retry.unwrap_or_else(|| STATUSES_RETRIED.contains(&status));
            let asked_ms = retry_after_ms.unwrap_or(0);
            (wanted && asked_ms <= RETRY_AFTER_MS_MAX)
                .then(|| asked_ms.max(backoff_ms(attempt, random)))
        }
    }
}

/// `Retry-After` in milliseconds. Only whole seconds are read: the HTTP-date form would need a clock.
#[must_use]
pub fn parse_retry_after(value: &str) -> Option<u32> {
    value.trim().parse::<u32>().ok()?.checked_mul(1_000)
}

fn backoff_ms(attempt: u32, random: f64) -> u32 {
    let full = BACKOFF_MS_MIN
        .saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX))
        .min(BACKOFF_MS_MAX);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0..=BACKOFF_MS_MAX: the factor is clamped"
    )]
    let jittered = (f64::from(full) * (0.5 + random.clamp(0.0, 1.0) / 2.0)) as u32;
    jittered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> Failure {
        Failure::Status {
            status,
            should_retry: None,
            retry_after_ms: None,
        }
    }

    #[test]
    fn only_what_may_pass_by_itself_is_tried_again() {
        for retried in [429, 502, 503, 504] {
            assert!(pause_ms(status(retried), 0, 0.0).is_some(), "{retried}");
        }
        for refused in [400, 401, 403, 404, 409, 413, 415, 422, 500] {
            assert_eq!(pause_ms(status(refused), 0, 0.0), None, "{refused}");
        }
        assert!(pause_ms(Failure::Connection, 0, 0.0).is_some());
    }

    #[test]
    fn the_server_overrules_the_table() {
        let with = |status, should_retry| Failure::Status {
            status,
            should_retry: Some(should_retry),
            retry_after_ms: None,
        };
        assert_eq!(pause_ms(with(503, false), 0, 0.0), None);
        assert!(pause_ms(with(500, true), 0, 0.0).is_some());
    }

    #[test]
    fn a_retry_after_is_honoured_up_to_its_bound() {
        let after = |retry_after_ms| Failure::Status {
            status: 429,
            should_retry: None,
            retry_after_ms: Some(retry_after_ms),
        };
        assert_eq!(pause_ms(after(5_000), 0, 0.9), Some(5_000));
        assert_eq!(pause_ms(after(60_000), 0, 0.9), Some(60_000));
        assert_eq!(pause_ms(after(60_001), 0, 0.9), None);
        assert_eq!(parse_retry_after(" 7 "), Some(7_000));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), None);
        assert_eq!(parse_retry_after("4294967295"), None);
    }

    #[test]
    fn pauses_double_are_jittered_over_half_and_stay_bounded() {
        let range = |attempt| {
            (
                pause_ms(Failure::Connection, attempt, 0.0).expect("retried"),
                pause_ms(Failure::Connection, attempt, 1.0).expect("retried"),
            )
        };
        assert_eq!(range(0), (250, 500));
        assert_eq!(range(1), (500, 1_000));
        assert_eq!(range(4), (4_000, 8_000));
        assert_eq!(range(200), (4_000, 8_000));
    }
}
