//! Just enough HTTP to talk to our own worker on this machine. A client library would be the largest thing that a
//! newcomer compiles before anything happens.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A worker's answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| {
            format!(
                "the worker's answer is no JSON: {}",
                String::from_utf8_lossy(&self.body)
            )
        })
    }

    /// Itself if it is a success, else the worker's own words.
    pub(crate) fn success(self) -> Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        bail!(
            "the worker answered {}: {}",
            self.status,
            String::from_utf8_lossy(&self.body)
        )
    }
}

pub(crate) fn get(port: u16, path: &str) -> Result<Answer> {
    send(port, "GET", path, None)
}

pub(crate) fn post(port: u16, path: &str, body: &Value) -> Result<Answer> {
    send(port, "POST", path, Some(body))
}

/// HTTP/1.0: one request a connection, and the answer ends where the connection does.
fn send(port: u16, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let body = body.map(ToString::to_string).unwrap_or_default();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    parse(&bytes).with_context(|| format!("{method} {path}"))
}

fn parse(bytes: &[u8]) -> Result<Answer> {
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .context("the answer broke off in its headers")?;
    let (head, rest) = bytes.split_at(end);
    let head = String::from_utf8_lossy(head);
    let status = head
        .split_whitespace()
        .nth(1)
        .and_then(|status| status.parse().ok())
        .context("the answer has no status")?;
    let body = rest.get(4..).unwrap_or_default().to_vec();
    let announced = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    if announced.is_some_and(|announced| announced != body.len()) {
        bail!("the answer broke off after {} bytes", body.len());
    }
    Ok(Answer { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_read() {
        let answer =
            parse(b"HTTP/1.0 202 Accepted\r\ncontent-length: 2\r\n\r\n{}").expect("answer");
        assert_eq!((answer.status, answer.body.as_slice()), (202, &b"{}"[..]));
    }

    #[test]
    fn a_broken_off_answer_is_an_error() {
        assert!(parse(b"HTTP/1.0 200 OK\r\ncontent-le").is_err());
        assert!(parse(b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n{}").is_err());
    }

    #[test]
    fn a_refusal_carries_the_workers_words() {
        let answer = parse(b"HTTP/1.0 400 Bad Request\r\n\r\nsteps must be").expect("answer");
        let error = answer.success().expect_err("refused").to_string();
        assert_eq!(error, "the worker answered 400: steps must be");
    }
}
