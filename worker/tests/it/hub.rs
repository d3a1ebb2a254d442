//! A server that speaks the Hugging Face hub's protocol, for tests: listings with hashes, large files by way of another
//! origin, ranges, and faults on request.

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use serde_json::{Value, json};
use sha1::Digest as _;
use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::net::TcpListener;

/// The commit of every repository here.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What happens to one request for a file, once.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The connection breaks after so many bytes.
    Cut(usize),
    /// So many bytes come, and then nothing any more.
    Stall(usize),
    /// One byte is another.
    Wrong,
    /// The range is not heeded.
    Whole,
    /// Another status.
    Status(u16),
}

/// A request for a file's bytes, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) file: String,
    pub(crate) range: Option<String>,
    pub(crate) if_range: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Repository {
    files: BTreeMap<String, Bytes>,
    /// Instead of the true listing.
    pub(crate) listing: Option<Value>,
    /// Only this token may read it; `None` for everybody.
    pub(crate) token: Option<String>,
    pub(crate) gated: bool,
}

#[derive(Debug, Default)]
struct Inner {
    repositories: BTreeMap<String, Repository>,
    faults: BTreeMap<String, VecDeque<Fault>>,
    seen: Vec<Seen>,
    listings: usize,
    tokens_at_cdn: usize,
    tokens_at_hub: usize,
}

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    cdn: Mutex<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic in a handler")
    }
}

/// The hub on one port, its CDN on another.
pub(crate) struct HubServer {
    pub(crate) endpoint: String,
    shared: Arc<Shared>,
}

impl HubServer {
    pub(crate) async fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let hub = serve(Router::new().fallback(hub).with_state(Arc::clone(&shared))).await;
        let cdn = serve(Router::new().fallback(cdn).with_state(Arc::clone(&shared))).await;
        *shared.cdn.lock().expect("address") = cdn;
        Self {
            endpoint: hub,
            shared,
        }
    }

    /// Offers every file below a folder.
    pub(crate) fn offer(&self, id: &str, folder: &Path) {
        let mut repository = Repository::default();
        collect(folder, folder, &mut repository.files);
        self.shared
            .lock()
            .repositories
            .insert(id.to_owned(), repository);
    }

    pub(crate) fn offer_file(&self, id: &str, path: &str, bytes: impl Into<Bytes>) {
        let mut inner = self.shared.lock();
        let repository = inner.repositories.entry(id.to_owned()).or_default();
        repository.files.insert(path.to_owned(), bytes.into());
    }

    pub(crate) fn change(&self, id: &str, change: impl FnOnce(&mut Repository)) {
        change(
            self.shared
                .lock()
                .repositories
                .get_mut(id)
                .expect("offered"),
        );
    }

    /// What happens to the next requests for a file.
    pub(crate) fn faults(&self, file: &str, faults: impl IntoIterator<Item = Fault>) {
        let faults = faults.into_iter().collect();
        self.shared.lock().faults.insert(file.to_owned(), faults);
    }

    /// The requests for bytes since the last call.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.lock().seen)
    }

    pub(crate) fn listings(&self) -> usize {
        self.shared.lock().listings
    }

    /// Requests that came with a token: at the hub, and at the CDN.
    pub(crate) fn tokens(&self) -> (usize, usize) {
        let inner = self.shared.lock();
        (inner.tokens_at_hub, inner.tokens_at_cdn)
    }
}

/// A file's hash as the hub lists it, and whether it is a large one.
pub(crate) fn hash_of(path: &str, bytes: &[u8]) -> (String, bool) {
    if path.ends_with(".safetensors") {
        return (hex::encode(sha2::Sha256::digest(bytes)), true);
    }
    let blob = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
    (hex::encode(sha1::Sha1::digest(blob)), false)
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, Bytes>) {
    for entry in fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).expect("below the root");
            let name = name.to_str().expect("utf-8").replace('\\', "/");
            files.insert(name, fs::read(&path).expect("file").into());
        }
    }
}

async fn hub(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let headers = request.headers().clone();
    let token = token(&headers);
    let mut inner = shared.lock();
    inner.tokens_at_hub += usize::from(token.is_some());
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["api", "models", organisation, name, "revision", revision] => {
            inner.listings += 1;
            let id = format!("{organisation}/{name}");
            refusal(&inner, &id, token.as_deref())
                .or_else(|| (!is_known(revision)).then(|| refuse(404, "RevisionNotFound")))
                .unwrap_or_else(|| listing(&inner, &id))
        }
        [organisation, name, "resolve", COMMIT, file @ ..] => {
            let id = format!("{organisation}/{name}");
            let file = file.join("/");
            if let Some(refusal) = refusal(&inner, &id, token.as_deref()) {
                return refusal;
            }
            let Some(bytes) = inner.repositories[&id].files.get(&file).cloned() else {
                return refuse(404, "EntryNotFound");
            };
            let (hash, is_large) = hash_of(&file, &bytes);
            if is_large {
                let location = format!("{}/{id}/{file}", shared.cdn.lock().expect("address"));
                let headers = [
                    ("location", location),
                    ("x-repo-commit", COMMIT.to_owned()),
                    ("x-linked-etag", format!("\"{hash}\"")),
                    ("x-linked-size", bytes.len().to_string()),
                ];
                return (StatusCode::FOUND, headers).into_response();
            }
            send(&mut inner, &file, bytes, &hash, &headers)
        }
        _ => refuse(404, "RepoNotFound"),
    }
}

async fn cdn(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let mut inner = shared.lock();
    inner.tokens_at_cdn += usize::from(token(request.headers()).is_some());
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let mut parts = path.splitn(3, '/');
    let id = format!(
        "{}/{}",
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default()
    );
    let file = parts.next().unwrap_or_default();
    let bytes = inner.repositories[&id].files[file].clone();
    send(&mut inner, file, bytes, "at-the-cdn", request.headers())
}

fn is_known(revision: &str) -> bool {
    ["main", "v1.0", "refs%2Fpr%2F1", COMMIT].contains(&revision)
}

fn token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::to_owned)
}

fn refusal(inner: &Inner, id: &str, token: Option<&str>) -> Option<Response> {
    let Some(repository) = inner.repositories.get(id) else {
        // As the hub does: without a token it does not even say that there is nothing.
        return Some(refuse(
            if token.is_some() { 404 } else { 401 },
            "RepoNotFound",
        ));
    };
    let wanted = repository.token.as_deref()?;
    match (token, repository.gated) {
        (Some(token), _) if token == wanted => None,
        (Some(_), true) => Some(refuse(403, "GatedRepo")),
        (None, true) => Some(refuse(401, "GatedRepo")),
        (_, false) => Some(refuse(401, "RepoNotFound")),
    }
}

fn refuse(status: u16, code: &'static str) -> Response {
    let status = StatusCode::from_u16(status).expect("status");
    (status, [("x-error-code", code)]).into_response()
}

fn listing(inner: &Inner, id: &str) -> Response {
    let repository = &inner.repositories[id];
    if let Some(listing) = &repository.listing {
        return Json(listing.clone()).into_response();
    }
    let siblings: Vec<Value> = repository
        .files
        .iter()
        .map(|(path, bytes)| {
            let (hash, is_large) = hash_of(path, bytes);
            if is_large {
                json!({
                    "rfilename": path, "size": bytes.len(), "blobId": "f".repeat(40),
                    "lfs": {"sha256": hash, "size": bytes.len(), "pointerSize": 135},
                })
            } else {
                json!({"rfilename": path, "size": bytes.len(), "blobId": hash})
            }
        })
        .collect();
    Json(json!({"id": id, "sha": COMMIT, "siblings": siblings})).into_response()
}

/// The bytes asked for, less what the next fault does to them.
fn send(inner: &mut Inner, file: &str, whole: Bytes, etag: &str, headers: &HeaderMap) -> Response {
    let text = |name| Some(headers.get(name)?.to_str().ok()?.to_owned());
    let seen = Seen {
        file: file.to_owned(),
        range: text(header::RANGE),
        if_range: text(header::IF_RANGE),
    };
    let fault = inner.faults.get_mut(file).and_then(VecDeque::pop_front);
    if let Some(Fault::Status(status)) = fault {
        inner.seen.push(seen);
        let status = StatusCode::from_u16(status).expect("status");
        return (status, [("retry-after", "0")]).into_response();
    }
    let etag = format!("\"{etag}\"");
    let start = seen
        .range
        .as_deref()
        .filter(|_| seen.if_range.as_ref().is_none_or(|wanted| *wanted == etag))
        .filter(|_| !matches!(fault, Some(Fault::Whole)))
        .and_then(|range| {
            range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse::<usize>()
                .ok()
        });
    inner.seen.push(seen);
    let length = whole.len();
    let mut bytes = whole.slice(start.unwrap_or(0).min(length)..);
    if matches!(fault, Some(Fault::Wrong)) {
        let mut wrong = bytes.to_vec();
        wrong[0] ^= 1;
        bytes = wrong.into();
    }
    let response = Response::builder()
        .header(header::ETAG, etag)
        .header(header::CONTENT_LENGTH, bytes.len());
    let response = match start {
        None => response,
        Some(start) => response.status(StatusCode::PARTIAL_CONTENT).header(
            header::CONTENT_RANGE,
            format!("bytes {start}-{}/{length}", length - 1),
        ),
    };
    let body = match fault {
        Some(Fault::Cut(after)) => {
            let broken = io::Error::other("cut");
            Body::from_stream(stream::iter([Ok(bytes.slice(..after)), Err(broken)]))
        }
        Some(Fault::Stall(after)) => {
            use futures_util::StreamExt as _;
            let first = stream::iter([Ok::<_, io::Error>(bytes.slice(..after))]);
            Body::from_stream(first.chain(stream::pending()))
        }
        _ => Body::from(bytes),
    };
    response.body(body).expect("response")
}
