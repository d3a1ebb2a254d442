//! How long a waiting job will wait, from how long the last ones took.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// Weight of the newest job in the moving mean.
const NEWEST_WEIGHT: f64 = 0.3;

/// Measured job durations.
#[derive(Debug, Default)]
pub struct Estimator {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    mean_ms: Option<f64>,
    running_since: Option<Instant>,
}

impl Estimator {
    /// A job begins now.
    pub fn started(&self) {
        self.lock().running_since = Some(Instant::now());
    }

    /// The running job has ended, for better or worse; only a whole drawing says how long one takes.
    pub fn ended(&self, succeeded: bool) {
        let mut state = self.lock();
        let Some(since) = state.running_since.take() else {
            return;
        };
        if succeeded {
            let duration_ms = since.elapsed().as_secs_f64() * 1_000.0;
            state.mean_ms = Some(moving_mean(state.mean_ms, duration_ms));
        }
    }

    /// Milliseconds until the job at `position` (1 is next) starts, once a job has been timed.
    #[must_use]
    pub fn wait_ms(&self, position: u32) -> Option<u64> {
        let state = self.lock();
        let running_ms = state
            .running_since
            .map(|since| since.elapsed().as_secs_f64() * 1_000.0);
        state
            .mean_ms
            .map(|mean_ms| wait_ms(mean_ms, running_ms, position))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn moving_mean(mean_ms: Option<f64>, newest_ms: f64) -> f64 {
    mean_ms.map_or(newest_ms, |mean_ms| {
        mean_ms + NEWEST_WEIGHT * (newest_ms - mean_ms)
    })
}

/// What is left of the running job, and a mean job for each one ahead.
fn wait_ms(mean_ms: f64, running_ms: Option<f64>, position: u32) -> u64 {
    let rest_ms = running_ms.map_or(0.0, |running_ms| (mean_ms - running_ms).max(0.0));
    to_ms(rest_ms + mean_ms * f64::from(position.saturating_sub(1)))
}

/// Rounded to whole milliseconds; what is not a number is 0.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float casts saturate, and below zero is clamped"
)]
pub fn to_ms(value: f64) -> u64 {
    value.max(0.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_what_is_left_and_a_mean_job_for_each_ahead() {
        assert_eq!(wait_ms(1_000.0, None, 1), 0);
        assert_eq!(wait_ms(1_000.0, Some(400.0), 1), 600);
        assert_eq!(wait_ms(1_000.0, Some(400.0), 3), 2_600);
        assert_eq!(wait_ms(1_000.0, Some(4_000.0), 2), 1_000);
    }

    #[test]
    fn nothing_is_promised_before_a_job_has_been_timed() {
        let estimator = Estimator::default();
        estimator.started();
        estimator.ended(false);
        assert_eq!(estimator.wait_ms(1), None);
        estimator.started();
        estimator.ended(true);
        assert!(estimator.wait_ms(1).is_some());
    }
}
