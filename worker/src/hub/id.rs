//! Names of repositories.

use super::HubError;
use std::{fmt, str::FromStr};

/// Longest organisation, name or revision, in bytes; the hub's own bound on a name is 96.
const PART_BYTES_MAX: usize = 200;
/// The branch that is meant when none is named.
const DEFAULT_REVISION: &str = "main";

/// A repository at a branch, tag or commit: `org/name` or `org/name@revision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    organisation: String,
    name: String,
    revision: String,
}

impl HubId {
    /// `org/name`.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.organisation, self.name)
    }

    /// Whose it is.
    #[must_use]
    pub fn organisation(&self) -> &str {
        &self.organisation
    }

    /// Its own name, without whose it is.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A branch, tag or commit.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The repository's folder in the cache.
    #[must_use]
    pub fn folder(&self) -> String {
        format!("models--{}--{}", self.organisation, self.name)
    }

    /// The repository that a folder of the cache holds, at its main branch.
    #[must_use]
    pub fn from_folder(folder: &str) -> Option<Self> {
        let (organisation, name) = folder.strip_prefix("models--")?.split_once("--")?;
        format!("{organisation}/{name}").parse().ok()
    }
}

impl FromStr for HubId {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let (repository, revision) = text.split_once('@').unwrap_or((text, DEFAULT_REVISION));
        repository
            .split_once('/')
            .filter(|(organisation, name)| is_part(organisation) && is_part(name))
            .filter(|_| is_revision(revision))
            .map(|(organisation, name)| Self {
                organisation: organisation.to_owned(),
                name: name.to_owned(),
                revision: revision.to_owned(),
            })
            .ok_or_else(|| HubError::InvalidId(text.to_owned()))
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.organisation, self.name)?;
        if self.revision != DEFAULT_REVISION {
            write!(f, "@{}", self.revision)?;
        }
        Ok(())
    }
}

/// The hub's own rule for names; what it leaves out are the very things that would lead out of the cache's folder, and
/// `--`, which separates the parts of a folder's name.
fn is_part(part: &str) -> bool {
    let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-');
    !part.is_empty()
        && part.len() <= PART_BYTES_MAX
        && part.chars().all(plain)
        && !part.contains("--")
        && !part.contains("..")
        && !part.starts_with(['.', '-'])
        && !part.ends_with(['.', '-'])
}

/// A branch may have slashes, as in `refs/pr/1`.
fn is_revision(revision: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.contains("..")
            && part
                .chars()
                .all(|char| char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-' | '+'))
    };
    revision.len() <= PART_BYTES_MAX && revision.split('/').all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_a_repository_and_perhaps_a_revision() {
        let id: HubId = "stabilityai/sd-turbo".parse().expect("id");
        assert_eq!(id.revision(), "main");
        assert_eq!(id.folder(), "models--stabilityai--sd-turbo");
        assert_eq!(id.to_string(), "stabilityai/sd-turbo");
        assert_eq!(HubId::from_folder(&id.folder()), Some(id));
        let id: HubId = "a/b.c_d@refs/pr/1".parse().expect("id");
        assert_eq!(
            (id.repository().as_str(), id.revision()),
            ("a/b.c_d", "refs/pr/1")
        );
        assert_eq!(id.to_string(), "a/b.c_d@refs/pr/1");
    }

    #[test]
    fn what_could_lead_out_of_the_cache_is_no_id() {
        for text in [
            "", "name", "a/b/c", "../b", "a/..", "/b", "a/", "a/b@", "a/b@../x", "a/b@/x",
            "a\\b/c", "a--b/c", "a/b@x//y", "./b", "a/b c", "a/-b", "a/b@.x",
        ] {
            assert!(text.parse::<HubId>().is_err(), "{text}");
        }
    }
}
