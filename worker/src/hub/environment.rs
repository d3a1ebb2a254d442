//! What the environment says about the hub, under the names that its own tools read.

use super::{HubCache, HubError};
use directories::BaseDirs;
use reqwest::Url;
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// A download on which nothing arrives for this long is taken up anew, unless `HF_HUB_DOWNLOAD_TIMEOUT` says otherwise.
const READ_TIMEOUT_S: u64 = 30;

/// Where the hub is, who asks, and where its files are kept.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// Where it is.
    pub endpoint: Url,
    /// Where files are kept.
    pub cache: HubCache,
    /// How long nothing may arrive on a download.
    pub read_timeout: Duration,
    /// Whether the network must not be used.
    pub offline: bool,
    pub(super) token: Option<Token>,
}

/// A token, kept out of every log.
#[derive(Clone)]
pub(super) struct Token(pub(super) String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl HubSettings {
    /// As the environment says; files are kept in `folder` where that is given.
    ///
    /// # Errors
    /// If a variable makes no sense, or there is no place for files.
    pub fn from_environment(folder: Option<&Path>) -> Result<Self, HubError> {
        Self::read(folder, &Environment::of_process())
    }

    fn read(folder: Option<&Path>, environment: &Environment<'_>) -> Result<Self, HubError> {
        Ok(Self {
            endpoint: endpoint(environment.get("HF_ENDPOINT"))?,
            cache: environment.cache(folder).ok_or(HubError::Environment {
                name: "HF_HOME",
                message: "must name a folder, for this user has no home folder".to_owned(),
            })?,
            read_timeout: read_timeout(environment.get("HF_HUB_DOWNLOAD_TIMEOUT"))?,
            offline: environment.is_set("HF_HUB_OFFLINE"),
            token: environment.token(),
        })
    }
}

impl HubCache {
    /// The cache in `folder`, else where the environment says, if it names a place or the user has a home folder.
    #[must_use]
    pub fn from_environment(folder: Option<&Path>) -> Option<Self> {
        Environment::of_process().cache(folder)
    }
}

/// The variables, and where the user lives.
struct Environment<'a> {
    home: Option<PathBuf>,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Environment<'_> {
    fn of_process() -> Self {
        Self {
            home: BaseDirs::new().map(|folders| folders.home_dir().to_owned()),
            variable: &|name| std::env::var(name).ok(),
        }
    }

    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.trim().is_empty())
    }

    fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| {
            matches!(value.to_lowercase().as_str(), "1" | "on" | "yes" | "true")
        })
    }

    fn folder(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    fn hub_home(&self) -> Option<PathBuf> {
        self.folder("HF_HOME").or_else(|| {
            let caches = self
                .folder("XDG_CACHE_HOME")
                .or_else(|| Some(self.home.as_ref()?.join(".cache")))?;
            Some(caches.join("huggingface"))
        })
    }

    fn cache(&self, folder: Option<&Path>) -> Option<HubCache> {
        let folder = folder
            .map(Path::to_owned)
            .or_else(|| self.folder("HF_HUB_CACHE"))
            .or_else(|| self.folder("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(self.hub_home()?.join("hub")))?;
        Some(HubCache::new(
            folder,
            !self.is_set("HF_HUB_DISABLE_SYMLINKS"),
        ))
    }

    fn token(&self) -> Option<Token> {
        if self.is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            return None;
        }
        let in_file = || {
            let file = self
                .folder("HF_TOKEN_PATH")
                .or_else(|| Some(self.hub_home()?.join("token")))?;
            fs::read_to_string(file).ok()
        };
        self.get("HF_TOKEN")
            .or_else(|| self.get("HUGGING_FACE_HUB_TOKEN"))
            .or_else(in_file)
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty())
            .map(Token)
    }
}

fn endpoint(value: Option<String>) -> Result<Url, HubError> {
    let value = value.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
    Url::parse(&value)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| HubError::Environment {
            name: "HF_ENDPOINT",
            message: format!("must be an http or https address, got {value:?}"),
        })
}

fn read_timeout(value: Option<String>) -> Result<Duration, HubError> {
    let Some(value) = value else {
        return Ok(Duration::from_secs(READ_TIMEOUT_S));
    };
    value
        .parse()
        .ok()
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
        .ok_or_else(|| HubError::Environment {
            name: "HF_HUB_DOWNLOAD_TIMEOUT",
            message: format!("must be whole seconds above 0, got {value:?}"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<HubSettings, HubError> {
        let environment = Environment {
            home: Some(PathBuf::from("/home/u")),
            variable: &|name| {
                variables
                    .iter()
                    .find(|(other, _)| *other == name)
                    .map(|(_, value)| (*value).to_owned())
            },
        };
        HubSettings::read(None, &environment)
    }

    #[test]
    fn the_cache_is_where_the_hubs_own_tools_keep_it() {
        let folder = |variables: &[(&str, &str)]| {
            read(variables)
                .expect("settings")
                .cache
                .folder()
                .display()
                .to_string()
        };
        assert_eq!(folder(&[]), "/home/u/.cache/huggingface/hub");
        assert_eq!(folder(&[("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
        assert_eq!(folder(&[("HF_HOME", "/hf")]), "/hf/hub");
        let both = [("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")];
        assert_eq!(folder(&both), "/c");
    }

    #[test]
    fn a_token_comes_from_the_environment_or_from_its_file_and_is_never_shown() {
        let home = tempfile::tempdir().expect("folder");
        let home = home.path().to_str().expect("utf-8");
        std::fs::write(format!("{home}/token"), " from-file \n").expect("file");
        let token = |variables: &[(&str, &str)]| {
            let settings = read(variables).expect("settings");
            assert!(!format!("{settings:?}").contains("from-"));
            settings.token.map(|token| token.0)
        };
        assert_eq!(token(&[("HF_HOME", home)]).as_deref(), Some("from-file"));
        let both = [("HF_HOME", home), ("HF_TOKEN", "from-variable")];
        assert_eq!(token(&both).as_deref(), Some("from-variable"));
        let off = [("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")];
        assert_eq!(token(&off), None);
    }

    #[test]
    fn variables_that_make_no_sense_are_refused() {
        for (name, value) in [
            ("HF_ENDPOINT", "huggingface"),
            ("HF_ENDPOINT", "ftp://x"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "0"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "soon"),
        ] {
            let error = read(&[(name, value)]).expect_err(value).to_string();
            assert!(error.starts_with(name) && error.contains(value), "{error}");
        }
    }
}
