//! Who may call: the forges whose webhooks are understood.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of forge. The project's hook says which; a request never does.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Provider {
    /// github.com, GitHub Enterprise.
    GitHub,
    /// gitlab.com, GitLab of one's own.
    GitLab,
    /// bitbucket.org.
    BitbucketCloud,
    /// Bitbucket Data Center and Server.
    BitbucketDataCenter,
    /// Gitea.
    Gitea,
    /// Forgejo, codeberg.org.
    Forgejo,
    /// Azure DevOps Services and Server.
    AzureDevOps,
    /// Anything that signs after Standard Webhooks.
    Generic,
}

impl Provider {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::GitHub,
        Self::GitLab,
        Self::BitbucketCloud,
        Self::BitbucketDataCenter,
        Self::Gitea,
        Self::Forgejo,
        Self::AzureDevOps,
        Self::Generic,
    ];

    /// Returns the name used in addresses and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::BitbucketCloud => "bitbucket",
            Self::BitbucketDataCenter => "bitbucket-dc",
            Self::Gitea => "gitea",
            Self::Forgejo => "forgejo",
            Self::AzureDevOps => "azure",
            Self::Generic => "generic",
        }
    }

    /// Returns the forge of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.as_str() == name)
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl TryFrom<String> for Provider {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::parse(&name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.into_iter().map(Self::as_str).collect();
            format!("a forge is one of {}", known.join(", "))
        })
    }
}

impl From<Provider> for String {
    fn from(provider: Provider) -> Self {
        provider.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for provider in Provider::ALL {
            assert_eq!(Provider::parse(provider.as_str()), Some(provider));
            let stored = serde_json::to_string(&provider).unwrap();
            assert_eq!(serde_json::from_str::<Provider>(&stored).unwrap(), provider);
        }
        assert_eq!(Provider::parse("GitHub"), None);
        assert!(
            serde_json::from_str::<Provider>("\"svn\"").unwrap_err().to_string().contains("bitbucket-dc")
        );
    }
}
