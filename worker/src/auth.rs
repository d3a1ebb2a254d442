//! Who may ask: bearer keys, kept only as digests and compared in constant time.

use crate::{app::App, error::ApiError};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use scumble_protocol::ErrorCode;
use sha2::{Digest as _, Sha256};
use std::fmt;
use subtle::{Choice, ConstantTimeEq as _};

/// The digests of the keys that are let in; empty lets everybody in.
#[derive(Clone, Default)]
pub struct AccessKeys {
    digests: Vec<[u8; 32]>,
}

impl fmt::Debug for AccessKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessKeys({})", self.digests.len())
    }
}

impl AccessKeys {
    /// Keeps the digests of `keys`.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            digests: keys
                .into_iter()
                .map(|key| Sha256::digest(key.as_bytes()).into())
                .collect(),
        }
    }

    /// Whether nobody has to show a key.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Whether `key` is one of them; takes as long whichever it is.
    fn contains(&self, key: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        self.digests
            .iter()
            .fold(Choice::from(0), |found, known| found | known.ct_eq(&digest))
            .into()
    }

    fn lets_in(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        value
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .is_some_and(|(_, key)| self.contains(key.trim()))
    }
}

/// Lets requests for `/v1` through that show a key. The studio's files are no secret, and probes have no key.
pub async fn require_key(State(app): State<App>, request: Request, next: Next) -> Response {
    let is_open = app.keys.is_empty() || !request.uri().path().starts_with("/v1/");
    if is_open || app.keys.lets_in(request.headers()) {
        return next.run(request).await;
    }
    ApiError::new(
        ErrorCode::InvalidApiKey,
        "this server asks for a key: send it as `Authorization: Bearer KEY`",
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        values
            .iter()
            .map(|&value| (header::AUTHORIZATION, value.parse().expect("header")))
            .collect()
    }

    #[test]
    fn only_one_exact_key_under_the_bearer_scheme_is_let_in() {
        let keys = AccessKeys::new(["alpha", "beta"]);
        assert!(keys.lets_in(&headers(&["Bearer alpha"])));
        assert!(keys.lets_in(&headers(&["bearer beta"])));
        for refused in [
            &[][..],
            &["alpha"],
            &["Basic alpha"],
            &["Bearer "],
            &["Bearer alph"],
            &["Bearer alphaa"],
            &["Bearer alpha", "Bearer alpha"],
        ] {
            assert!(!keys.lets_in(&headers(refused)), "{refused:?}");
        }
    }

    #[test]
    fn keys_are_not_printed() {
        assert_eq!(
            format!("{:?}", AccessKeys::new(["secret"])),
            "AccessKeys(1)"
        );
    }
}
