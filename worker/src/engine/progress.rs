//! How far a drawing is and how long the rest will take.

use crate::estimate::to_ms;
use scumble_protocol::{EventData, Timings};
use std::time::{Duration, Instant};

/// The clock readings of one job.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    started: Instant,
    encoded: Instant,
    /// When the last thing was reported.
    last: Instant,
    denoise: Duration,
    decode: Duration,
    images: usize,
    /// Of the whole batch, as last reported.
    eta_ms: Option<u64>,
    /// Steps done of the image being drawn.
    step: usize,
}

impl Progress {
    pub(super) const fn new(started: Instant, images: usize) -> Self {
        Self {
            started,
            encoded: started,
            last: started,
            denoise: Duration::ZERO,
            decode: Duration::ZERO,
            images,
            eta_ms: None,
            step: 0,
        }
    }

    pub(super) const fn encoded(&mut self, at: Instant) {
        self.encoded = at;
        self.last = at;
    }

    /// A step is done: the event to tell.
    pub(super) fn step(
        &mut self,
        image: usize,
        step: usize,
        total: usize,
        at: Instant,
    ) -> EventData {
        self.denoise += at.duration_since(self.last);
        self.last = at;
        self.step = step;
        let done = to_f64(image * total + step);
        let left = to_f64((self.images * total).saturating_sub(image * total + step));
        // Over everything since the prompt was encoded, so that the images already decoded count in the rate.
        let drawing_s = at.duration_since(self.encoded).as_secs_f64();
        let steps_per_second = if drawing_s > 0.0 {
            done / drawing_s
        } else {
            0.0
        };
        let eta_ms = if steps_per_second > 0.0 {
            to_ms(left / steps_per_second * 1_000.0)
        } else {
            0
        };
        self.eta_ms = Some(eta_ms);
        EventData::Progress {
            step: to_u32(step),
            total: to_u32(total),
            image: to_u32(image),
            elapsed_ms: milliseconds(at.duration_since(self.started)),
            eta_ms,
            steps_per_second: (steps_per_second * 100.0).round() / 100.0,
        }
    }

    pub(super) fn image(&mut self, at: Instant) {
        self.decode += at.duration_since(self.last);
        self.last = at;
    }

    /// Milliseconds to the end, once a step was measured.
    pub(super) const fn eta_ms(&self) -> Option<u64> {
        self.eta_ms
    }

    /// Steps done of the image being drawn.
    pub(super) fn steps_done(&self) -> u32 {
        to_u32(self.step)
    }

    /// Where the time went, once all images are stored.
    pub(super) fn timings(&self, queue_ms: u64) -> Timings {
        Timings {
            queue_ms,
            encode_ms: milliseconds(self.encoded.duration_since(self.started)),
            denoise_ms: milliseconds(self.denoise),
            decode_ms: milliseconds(self.decode),
            total_ms: milliseconds(self.started.elapsed()),
        }
    }
}

pub(super) fn to_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of steps are far below 2^52"
)]
const fn to_f64(value: usize) -> f64 {
    value as f64
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_foretold_for_the_whole_batch() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut progress = Progress::new(start, 2);
        progress.encoded(at(100));
        progress.step(0, 1, 4, at(200));
        progress.step(0, 4, 4, at(500));
        progress.image(at(600));
        let event = progress.step(1, 1, 4, at(700));
        let EventData::Progress {
            elapsed_ms,
            eta_ms,
            steps_per_second,
            image,
            ..
        } = event
        else {
            unreachable!("a step is told as progress");
        };
        // Five of eight steps in 600 ms since the prompt was encoded: three are left.
        assert_eq!((elapsed_ms, eta_ms, image), (700, 360, 1));
        assert!((steps_per_second - 8.33).abs() < 1e-9);
        let timings = progress.timings(50);
        assert_eq!(
            (
                timings.queue_ms,
                timings.encode_ms,
                timings.denoise_ms,
                timings.decode_ms
            ),
            (50, 100, 500, 100)
        );
    }
}
