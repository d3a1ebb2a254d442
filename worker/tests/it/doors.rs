//! Who is let in: hosts, origins, keys, slow heads.

use crate::support::{Server, jobs_in, running};
use scumble_worker::{engine::EngineStatus, limits, server::ConnectionLimits};
use serde_json::Value;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

#[tokio::test]
async fn only_names_of_this_server_are_answered() {
    let server = Server::start().await;
    let port = server.address.port();
    let head = |host: &str| format!("GET /health HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
    for host in [
        format!("Host: 127.0.0.1:{port}\r\n"),
        "Host: localhost\r\n".to_owned(),
    ] {
        let answer = server.raw(&head(&host)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
    }
    for host in [
        "Host: attacker.com\r\n",
        "Host: localhost.evil.com\r\n",
        "Host: localhost.\r\n",
        "Host: localhost\r\nHost: localhost\r\n",
        "",
    ] {
        let answer = server.raw(&head(host)).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{host}: {answer}");
        assert!(answer.contains("forbidden_origin"), "{host}: {answer}");
    }
    let absolute =
        "GET http://attacker.com/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(server.raw(absolute).await.starts_with("HTTP/1.1 403"));
    server.stop().await;
}

#[tokio::test]
async fn pages_of_other_origins_draw_nothing() {
    let server = Server::start_with(&["--allow-origin", "https://studio.example.com"]).await;
    let post = |origin: &'static str| {
        server
            .client
            .post(server.url("/v1/jobs"))
            .header("origin", origin)
            .header("content-type", "application/json")
            .body(r#"{"prompt":"a red apple","steps":1}"#)
            .send()
    };
    for origin in [
        "null",
        "https://evil.com",
        "https://studio.example.com.evil.com",
        "http://studio.example.com",
        "https://studio.example.com:444",
    ] {
        let response = post(origin).await.expect("answer");
        assert_eq!(response.status(), 403, "{origin}");
        assert!(
            !response
                .headers()
                .contains_key("access-control-allow-origin")
        );
    }
    assert_eq!(jobs_in(server.data_dir.path()), 0);
    for origin in ["https://studio.example.com", "http://localhost:5173"] {
        let response = post(origin).await.expect("answer");
        assert_eq!(response.status(), 202, "{origin}");
        assert_eq!(response.headers()["access-control-allow-origin"], origin);
        let exposed = response.headers()["access-control-expose-headers"]
            .to_str()
            .expect("text");
        assert!(exposed.contains("x-request-id"), "{exposed}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_cross_site_change_without_an_origin_is_refused() {
    let server = Server::start().await;
    let response = server
        .client
        .post(server.url("/v1/jobs"))
        .header("sec-fetch-site", "cross-site")
        .header("content-type", "application/json")
        .body(r#"{"prompt":"a red apple"}"#)
        .send()
        .await
        .expect("answer");
    assert_eq!(response.status(), 403);
    server.stop().await;
}

#[tokio::test]
async fn a_preflight_of_an_allowed_page_is_answered_without_a_key() {
    let server = Server::start_with(&["--api-key", "secret"]).await;
    let response = server
        .client
        .request(reqwest::Method::OPTIONS, server.url("/v1/jobs"))
        .header("origin", "http://localhost:5173")
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type",
        )
        .send()
        .await
        .expect("answer");
    assert_eq!(response.status(), 200);
    let allowed = response.headers()["access-control-allow-headers"]
        .to_str()
        .expect("text");
    assert_eq!(allowed, "authorization,content-type");
    server.stop().await;
}

#[tokio::test]
async fn a_key_opens_the_api_and_probes_need_none() {
    let server = Server::start_with(&["--api-key", "alpha", "--api-key", "beta"]).await;
    let models = server.url("/v1/models");
    let response = server.client.get(&models).send().await.expect("answer");
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    let error: Value = response.json().await.expect("json");
    assert_eq!(error["error"]["code"], "invalid_api_key");
    assert_eq!(error["error"]["type"], "authentication_error");
    let wrong = server
        .client
        .get(&models)
        .bearer_auth("gamma")
        .send()
        .await
        .expect("answer");
    assert_eq!(wrong.status(), 401);
    for key in ["alpha", "beta"] {
        let right = server
            .client
            .get(&models)
            .bearer_auth(key)
            .send()
            .await
            .expect("answer");
        assert_eq!(right.status(), 200);
    }
    for open in ["/health", "/ready"] {
        assert_eq!(server.get(open).await.status(), 200);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off_while_others_are_served() {
    let data_dir = tempfile::tempdir().expect("folder");
    let connection_limits = ConnectionLimits {
        connections_max: limits::CONNECTIONS_MAX,
        header_read_timeout: Duration::from_millis(200),
    };
    let running = running(data_dir.path(), &[], connection_limits).await;
    let mut status = running.engine_status();
    let server = Server::from_running(running, data_dir);
    let mut slow = TcpStream::connect(server.address)
        .await
        .expect("connection");
    slow.write_all(b"GET /health HTTP/1.1\r\nHost: local")
        .await
        .expect("a part of a head");
    assert_eq!(server.get("/health").await.status(), 200);
    let mut rest = Vec::new();
    // Ends only because the server closes: nothing more is sent.
    let _ = slow.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
    status
        .wait_for(|status| *status == EngineStatus::Ready)
        .await
        .expect("the model loads");
    server.stop().await;
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_for_a_place() {
    let data_dir = tempfile::tempdir().expect("folder");
    let connection_limits = ConnectionLimits {
        connections_max: 1,
        header_read_timeout: limits::HEADER_READ_TIMEOUT,
    };
    let running = running(data_dir.path(), &[], connection_limits).await;
    let server = Server::from_running(running, data_dir);
    let first = TcpStream::connect(server.address)
        .await
        .expect("connection");
    let mut second = TcpStream::connect(server.address)
        .await
        .expect("the backlog takes it");
    second
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .expect("request");
    drop(first);
    let mut answer = String::new();
    second.read_to_string(&mut answer).await.expect("answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_request_id_of_the_client_is_kept_if_it_is_plain() {
    let server = Server::start().await;
    let send = |id: &'static str| {
        server
            .client
            .get(server.url("/health"))
            .header("x-request-id", id)
            .send()
    };
    let kept = send("trace-42").await.expect("answer");
    assert_eq!(kept.headers()["x-request-id"], "trace-42");
    let replaced = send("a b<script>").await.expect("answer");
    assert!(
        replaced.headers()["x-request-id"]
            .to_str()
            .expect("text")
            .starts_with("req_")
    );
    server.stop().await;
}

#[tokio::test]
async fn the_front_page_is_there_with_or_without_a_studio() {
    let server = Server::start().await;
    let response = server.get("/").await;
    assert_eq!(response.status(), 200);
    let page = response.text().await.expect("text");
    assert!(
        page.contains("<html") || page.contains("cargo xtask demo"),
        "{page}"
    );
    server.stop().await;
}
