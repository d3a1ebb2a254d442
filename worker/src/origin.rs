//! From which pages and under which names the server answers: keeps other sites' scripts and rebound names out.

use crate::{app::App, error::ApiError};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, header, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use scumble_protocol::ErrorCode;
use std::net::IpAddr;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer, ExposeHeaders};

/// How long a browser may remember a preflight's answer.
const PREFLIGHT_MAX_AGE: std::time::Duration = std::time::Duration::from_secs(600);

/// The names and pages that are answered.
#[derive(Debug, Clone)]
pub struct OriginPolicy {
    bind: IpAddr,
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl OriginPolicy {
    /// Answers under `bind`'s address, loopback names and `hosts`, to pages of the same origin, of loopback and of
    /// `origins`.
    #[must_use]
    pub fn new(bind: IpAddr, hosts: &[String], origins: &[String]) -> Self {
        let lower = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self {
            bind,
            hosts: lower(hosts),
            origins: lower(origins),
        }
    }

    /// Whether `authority` (`name`, `name:port`, `[::1]:port`) names this server.
    fn allows_host(&self, authority: &str) -> bool {
        let Some(name) = host_name(authority) else {
            return false;
        };
        let name = name.to_ascii_lowercase();
        if is_loopback_name(&name) || self.hosts.contains(&name) {
            return true;
        }
        // An address in digits cannot be rebound: only a name can be made to point here.
        parse_ip(&name).is_some_and(|ip| ip == self.bind || self.bind.is_unspecified())
    }

    /// Whether a page of `origin` may ask a server that it reached as `host`.
    fn allows_origin(&self, origin: &str, host: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        if self.origins.contains(&origin) {
            return true;
        }
        let Some(authority) = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"))
        else {
            return false;
        };
        authority == host.to_ascii_lowercase() || host_name(authority).is_some_and(is_loopback_name)
    }

    /// Why the request is refused, if it is.
    fn refusal(
        &self,
        method: &Method,
        parts_authority: Option<&str>,
        headers: &HeaderMap,
    ) -> Option<String> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Some("a request must have one Host header".to_owned());
        };
        let host = host.to_str().unwrap_or_default();
        if !self.allows_host(host) || parts_authority.is_some_and(|name| !self.allows_host(name)) {
            return Some(
                "the server does not answer under this Host; start it with --allow-host NAME if the name is yours"
                    .to_owned(),
            );
        }
        match headers.get(header::ORIGIN) {
            Some(origin) if !self.allows_origin(origin.to_str().unwrap_or_default(), host) => Some(
                "the server does not answer to pages of this Origin; start it with --allow-origin URL if the page is yours"
                    .to_owned(),
            ),
            // Browsers send Origin with every request that changes something; this is for those that do not.
            None if !method.is_safe() && is_cross_site(headers) => {
                Some("the server takes no changes from other sites".to_owned())
            }
            _ => None,
        }
    }
}

/// The first layer that a request meets: nothing behind it sees a request from elsewhere.
pub async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let authority = request
        .uri()
        .authority()
        .map(axum::http::uri::Authority::as_str);
    match app
        .origins
        .refusal(request.method(), authority, request.headers())
    {
        None => next.run(request).await,
        Some(message) => ApiError::new(ErrorCode::ForbiddenOrigin, message).into_response(),
    }
}

/// What browsers are told about requests from the pages that [`guard`] lets through.
pub fn cors(app: &App) -> CorsLayer {
    let app = app.clone();
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, parts: &Parts| {
            let host = parts
                .headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok());
            origin
                .to_str()
                .is_ok_and(|origin| app.origins.allows_origin(origin, host.unwrap_or_default()))
        }))
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(ExposeHeaders::list([
            header::LOCATION,
            header::RETRY_AFTER,
            header::ETAG,
            header::CONTENT_RANGE,
            header::ACCEPT_RANGES,
            header::HeaderName::from_static("preference-applied"),
            header::HeaderName::from_static("x-request-id"),
            header::HeaderName::from_static("x-should-retry"),
        ]))
        .max_age(PREFLIGHT_MAX_AGE)
}

fn is_cross_site(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-site")
        .is_some_and(|site| site == "cross-site")
}

/// The name of `name`, `name:port` or `[v6]:port`, brackets kept; `None` if it is none of these.
fn host_name(authority: &str) -> Option<&str> {
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (name, port) = authority.split_at_checked(end)?;
    let port_is_sound = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| digits.parse::<u16>().is_ok());
    (port_is_sound && !name.is_empty()).then_some(name)
}

fn is_loopback_name(name: &str) -> bool {
    name == "localhost" || parse_ip(name).is_some_and(|ip| ip.is_loopback())
}

fn parse_ip(name: &str) -> Option<IpAddr> {
    let digits = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(name);
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(bind: &str) -> OriginPolicy {
        OriginPolicy::new(
            bind.parse().expect("address"),
            &["draw.example.com".to_owned()],
            &["https://studio.example.com".to_owned()],
        )
    }

    #[test]
    fn loopback_names_and_allowed_names_are_answered_and_look_alikes_are_not() {
        let policy = policy("127.0.0.1");
        for host in [
            "localhost",
            "localhost:8600",
            "127.0.0.1:1",
            "[::1]:8600",
            "LOCALHOST",
            "draw.example.com:443",
        ] {
            assert!(policy.allows_host(host), "{host}");
        }
        for host in [
            "",
            "attacker.com",
            "localhost.evil.com",
            "localhost.",
            "evil-localhost",
            "10.0.0.7:8600",
            "localhost:port",
            "localhost:8600:1",
            "[::1",
            "draw.example.com.evil.com",
            "127.0.0.1@evil.com",
        ] {
            assert!(!policy.allows_host(host), "{host}");
        }
    }

    #[test]
    fn a_bind_to_every_address_is_answered_under_addresses_but_not_under_names() {
        let policy = policy("0.0.0.0");
        assert!(policy.allows_host("192.168.1.5:8600"));
        assert!(!policy.allows_host("attacker.com"));
    }

    #[test]
    fn origins_are_matched_whole() {
        let policy = policy("127.0.0.1");
        let host = "draw.example.com";
        for origin in [
            "http://localhost:5173",
            "https://127.0.0.1",
            "http://[::1]:3000",
            "https://studio.example.com",
            "https://draw.example.com",
            "HTTP://LOCALHOST:1",
        ] {
            assert!(policy.allows_origin(origin, host), "{origin}");
        }
        for origin in [
            "null",
            "",
            "https://studio.example.com.evil.com",
            "https://studio.example.com:444",
            "http://studio.example.com",
            "https://draw.example.com:1",
            "file://",
            "http://localhost.evil.com",
            "chrome-extension://localhost",
            "http://evil.com/localhost",
        ] {
            assert!(!policy.allows_origin(origin, host), "{origin}");
        }
    }
}
