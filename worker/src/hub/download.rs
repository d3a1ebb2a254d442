//! One file, fetched so that it can be interrupted anywhere: what has arrived stays in `<blob>.incomplete`, the next try
//! asks for the rest, and only bytes of the right hash become a blob.

use super::{
    HubError,
    environment::Token,
    select::{Hash, RemoteFile},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use indicatif::ProgressBar;
use reqwest::{Client, Response, Url};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::PathBuf,
    time::Duration,
};

/// Tries in a row on which nothing arrives before a file is given up.
const ATTEMPTS_MAX: u32 = 5;
/// Before the second try; doubled before each further one.
const RETRY_DELAY: Duration = Duration::from_millis(300);
/// The longest wait before a try, whatever the server asks for.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(30);
/// Redirects of one request.
const REDIRECTS_MAX: usize = 5;
/// Bytes read at once where a partial file is hashed.
const READ_BYTES: usize = 1024 * 1024;

/// Where a file comes from and goes to.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) token: Option<&'a Token>,
    pub(super) url: Url,
    pub(super) file: &'a RemoteFile,
    pub(super) blob: PathBuf,
    pub(super) bar: ProgressBar,
}

impl Download<'_> {
    /// Fetches what is still missing, checks the whole, and puts it in its place. The lock on the blob must be held.
    pub(super) async fn run(self) -> Result<(), HubError> {
        let mut partial = Partial::open(&self.blob, self.file)?;
        let mut validator = None;
        let mut failures = 0;
        let mut is_second_copy = false;
        loop {
            self.bar.set_position(partial.length);
            let length_before = partial.length;
            match self.transfer(&mut partial, &mut validator).await {
                Ok(()) if partial.is_right() => return partial.keep(&self.blob),
                Ok(()) if is_second_copy => {
                    partial.discard()?;
                    return Err(HubError::WrongContent {
                        file: self.file.path.clone(),
                        wanted: self.file.hash.to_string(),
                    });
                }
                Ok(()) => {
                    // A part of it may come from an older, broken try: once more from the start.
                    is_second_copy = true;
                    partial.restart()?;
                    tracing::warn!(
                        file = self.file.path,
                        "wrong content; fetched again from the start"
                    );
                }
                Err(HubError::Interrupted {
                    message,
                    retry_after_s,
                    ..
                }) => {
                    failures = if partial.length > length_before {
                        1
                    } else {
                        failures + 1
                    };
                    if failures >= ATTEMPTS_MAX {
                        return Err(self.interrupted(message, retry_after_s));
                    }
                    tracing::debug!(file = self.file.path, message, failures, "taken up again");
                    tokio::time::sleep(delay(failures, retry_after_s)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Appends what the server sends to what is there. `Interrupted` if it is worth another try.
    async fn transfer(
        &self,
        partial: &mut Partial,
        validator: &mut Option<HeaderValue>,
    ) -> Result<(), HubError> {
        if partial.length == self.file.size && self.file.size > 0 {
            return Ok(());
        }
        let mut headers = HeaderMap::new();
        // Compressed on the way, sizes and ranges would be those of the compressed bytes.
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        if partial.length > 0 {
            let range = format!("bytes={}-", partial.length);
            headers.insert(
                header::RANGE,
                HeaderValue::from_str(&range).map_err(|_| self.odd("a range"))?,
            );
            if let Some(validator) = validator.as_ref() {
                headers.insert(header::IF_RANGE, validator.clone());
            }
        }
        let mut response = follow(
            self.client,
            self.token,
            self.url.clone(),
            headers,
            &self.file.path,
        )
        .await?;
        self.check_start(&response, partial)?;
        *validator = strong_validator(&response);
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    partial.append(&chunk)?;
                    self.bar.set_position(partial.length);
                    if partial.length > self.file.size {
                        partial.restart()?;
                        return Err(
                            self.interrupted("more bytes came than the file has".to_owned(), None)
                        );
                    }
                }
                Ok(None) if partial.length == self.file.size => return Ok(()),
                Ok(None) => return Err(self.interrupted("the connection was cut".to_owned(), None)),
                Err(error) => return Err(self.interrupted(describe(error), None)),
            }
        }
    }

    /// Makes sure that what comes continues what is there.
    fn check_start(&self, response: &Response, partial: &mut Partial) -> Result<(), HubError> {
        match response.status() {
            StatusCode::OK => {
                if partial.length > 0 {
                    // The server takes no ranges, or the file is another one by now.
                    partial.restart()?;
                }
                Ok(())
            }
            StatusCode::PARTIAL_CONTENT if first_byte(response) == Some(partial.length) => Ok(()),
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                partial.restart()?;
                Err(self.interrupted(
                    "the server sent another part than was asked for".to_owned(),
                    None,
                ))
            }
            status => Err(HubError::Refused {
                what: self.file.path.clone(),
                status: status.as_u16(),
            }),
        }
    }

    fn interrupted(&self, message: String, retry_after_s: Option<u64>) -> HubError {
        HubError::Interrupted {
            file: self.file.path.clone(),
            message,
            retry_after_s,
        }
    }

    fn odd(&self, what: &str) -> HubError {
        HubError::Protocol {
            host: self.url.host_str().unwrap_or_default().to_owned(),
            message: format!("{what} of {} is no header", self.file.path),
        }
    }
}

/// A GET that follows redirects and shows the token to the hub alone, never to where it redirects.
///
/// # Errors
/// `Interrupted` for what may pass; the hub's refusals by their own names.
pub(super) async fn follow(
    client: &Client,
    token: Option<&Token>,
    start: Url,
    headers: HeaderMap,
    what: &str,
) -> Result<Response, HubError> {
    let interrupted = |message: String, retry_after_s| HubError::Interrupted {
        file: what.to_owned(),
        message,
        retry_after_s,
    };
    let mut url = start.clone();
    for _ in 0..=REDIRECTS_MAX {
        let mut request = client.get(url.clone()).headers(headers.clone());
        if let Some(token) = token
            && url.origin() == start.origin()
        {
            request = request.bearer_auth(&token.0);
        }
        let response = request
            .send()
            .await
            .map_err(|error| interrupted(describe(error), None))?;
        let status = response.status();
        if status.is_redirection() {
            url = redirected(&url, response.headers()).ok_or_else(|| HubError::Protocol {
                host: url.host_str().unwrap_or_default().to_owned(),
                message: format!("it redirects {what} to nowhere"),
            })?;
            continue;
        }
        if status.is_server_error()
            || matches!(
                status,
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
            )
        {
            let after = response.headers().get(header::RETRY_AFTER);
            let after = after.and_then(|value| value.to_str().ok()?.parse().ok());
            return Err(interrupted(
                format!("the server answered {}", status.as_u16()),
                after,
            ));
        }
        return Ok(response);
    }
    Err(HubError::Protocol {
        host: start.host_str().unwrap_or_default().to_owned(),
        message: format!("it redirects {what} more than {REDIRECTS_MAX} times"),
    })
}

/// How long to wait before the next try, a little different for each of those who wait.
pub(super) fn delay(failures: u32, retry_after_s: Option<u64>) -> Duration {
    let doubled = RETRY_DELAY.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let wanted = retry_after_s.map_or(doubled, Duration::from_secs);
    let jitter = getrandom::u32().map_or(0, |bits| bits % 100);
    wanted.min(RETRY_DELAY_MAX) + RETRY_DELAY * jitter / 400
}

/// Whether a further try may follow after this many failures in a row.
pub(super) const fn may_retry(failures: u32) -> bool {
    failures < ATTEMPTS_MAX
}

fn redirected(from: &Url, headers: &HeaderMap) -> Option<Url> {
    let location = headers.get(header::LOCATION)?.to_str().ok()?;
    let url = from.join(location).ok()?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

/// What broke, without the address: those of a CDN hold keys.
pub(super) fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}

fn first_byte(response: &Response) -> Option<u64> {
    let range = response
        .headers()
        .get(header::CONTENT_RANGE)?
        .to_str()
        .ok()?;
    range
        .strip_prefix("bytes ")?
        .split_once('-')?
        .0
        .parse()
        .ok()
}

/// The ETag that a later range must still have; a weak one says nothing about bytes.
fn strong_validator(response: &Response) -> Option<HeaderValue> {
    const ETAG: HeaderName = header::ETAG;
    let etag = response.headers().get(ETAG)?;
    etag.as_bytes().starts_with(b"\"").then(|| etag.clone())
}

/// The part of a file that has arrived.
struct Partial {
    path: PathBuf,
    file: File,
    length: u64,
    hasher: Hasher,
    wanted: RemoteFile,
}

enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl Hasher {
    fn new(file: &RemoteFile) -> Self {
        match file.hash {
            Hash::Sha256(_) => Self::Sha256(Sha256::new()),
            // An object's id in git is the hash of its kind and size and bytes.
            Hash::Git(_) => Self::Git(Sha1::new().chain_update(format!("blob {}\0", file.size))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Git(hasher) => hasher.update(bytes),
        }
    }

    fn hex(&self) -> String {
        match self {
            Self::Sha256(hasher) => hex::encode(hasher.clone().finalize()),
            Self::Git(hasher) => hex::encode(hasher.clone().finalize()),
        }
    }
}

impl Partial {
    /// What an earlier try left, or nothing.
    fn open(blob: &std::path::Path, wanted: &RemoteFile) -> Result<Self, HubError> {
        super::cache::create_parent(blob)?;
        let path = incomplete(blob);
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(HubError::io(&path))?;
        let mut partial = Self {
            file,
            length: 0,
            hasher: Hasher::new(wanted),
            wanted: wanted.clone(),
            path,
        };
        partial.take_up()?;
        Ok(partial)
    }

    /// Hashes what is there, and stands behind it.
    fn take_up(&mut self) -> Result<(), HubError> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = self
                .file
                .read(&mut buffer)
                .map_err(HubError::io(&self.path))?;
            let bytes = buffer.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            self.hasher.update(bytes);
            self.length += u64::try_from(read).unwrap_or(u64::MAX);
        }
        if self.length > self.wanted.size {
            self.restart()?;
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.file
            .write_all(bytes)
            .map_err(HubError::io(&self.path))?;
        self.hasher.update(bytes);
        self.length += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    fn restart(&mut self) -> Result<(), HubError> {
        self.file.set_len(0).map_err(HubError::io(&self.path))?;
        self.file
            .seek(SeekFrom::Start(0))
            .map_err(HubError::io(&self.path))?;
        self.length = 0;
        self.hasher = Hasher::new(&self.wanted);
        Ok(())
    }

    fn is_right(&self) -> bool {
        self.length == self.wanted.size && self.hasher.hex() == self.wanted.hash.as_str()
    }

    /// On disk first, so that a power cut leaves no blob with holes.
    fn keep(self, blob: &std::path::Path) -> Result<(), HubError> {
        self.file.sync_all().map_err(HubError::io(&self.path))?;
        drop(self.file);
        fs::rename(&self.path, blob).map_err(HubError::io(blob))
    }

    fn discard(self) -> Result<(), HubError> {
        drop(self.file);
        fs::remove_file(&self.path).map_err(HubError::io(&self.path))
    }
}

/// Where a blob grows.
pub(super) fn incomplete(blob: &std::path::Path) -> PathBuf {
    let mut name = blob.file_name().unwrap_or_default().to_owned();
    name.push(".incomplete");
    blob.with_file_name(name)
}
