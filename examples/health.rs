//! A health check of one's own: does a release know which commit it was built from?
//!
//! `cargo run -p eeveon-examples --bin health -- /var/www/shop/current COMMIT` waits until the file
//! `BUILT_FROM` in the folder names the commit. Whatever implements `HealthCheck` can stand in a gate.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{env, error::Error, fs::File, io::Read, path::Path};

use async_trait::async_trait;
use eeveon_core::{CommitId, Fence, Permit, ProjectName, ReleaseNumber};
use eeveon_health::{HealthCheck, Pace, Phase, ProbeError, Reading, Subject, pass};
use tokio_util::sync::CancellationToken;

/// Reads what the build wrote into the release.
#[derive(Debug)]
struct BuiltFrom;

#[async_trait]
impl HealthCheck for BuiltFrom {
    fn name(&self) -> &str {
        "built from"
    }

    async fn probe(&self, subject: &Subject) -> Result<Reading, ProbeError> {
        let folder = subject.folder.clone();
        // Reading may block, so it happens where that disturbs nobody.
        let found = tokio::task::spawn_blocking(move || stamp(&folder)).await;
        Ok(match found.map_err(|error| ProbeError::Protocol(error.to_string()))?? {
            Some(commit) if commit.trim_end() == subject.commit.as_str() => Reading::Healthy,
            Some(commit) => Reading::unhealthy(format!("it was built from {commit}")),
            None => Reading::unhealthy("it has no BUILT_FROM"),
        })
    }
}

/// Returns what a release says about itself, and no more than a commit id takes.
fn stamp(folder: &Path) -> Result<Option<String>, ProbeError> {
    if !folder.is_dir() {
        // No release is no answer; a release without the file is an unhealthy one.
        return Err(ProbeError::Refused("there is no release".to_owned()));
    }
    let Ok(file) = File::open(folder.join("BUILT_FROM")) else { return Ok(None) };
    let mut commit = Vec::new();
    file.take(80).read_to_end(&mut commit).map_err(|error| ProbeError::Protocol(error.to_string()))?;
    Ok(Some(String::from_utf8_lossy(&commit).into_owned()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, commit] = arguments.as_slice() else { return Err("usage: health FOLDER COMMIT".into()) };
    let subject = Subject {
        project: ProjectName::new("example")?,
        release: ReleaseNumber(1),
        commit: CommitId::new(commit.as_str())?,
        folder: folder.into(),
    };
    let permit = Permit::new(Fence(1), CancellationToken::new());
    let pace = Pace { attempts: 5, first_ms: 200, ..Pace::default() };
    let looked = pass(&BuiltFrom, Phase::Candidate, &pace, &subject, &permit).await?;
    println!("healthy, after {} looks in {} ms", looked.looks, looked.took_ms);
    Ok(())
}

#[cfg(test)]
mod tests {
    use eeveon_testkit::health::{self, Scene, World, check_health};

    use super::*;

    struct Release(tempfile::TempDir, World);

    impl Scene for Release {
        fn check(&self) -> &dyn HealthCheck {
            &BuiltFrom
        }

        fn subject(&self) -> Subject {
            let folder = match self.1 {
                World::Absent => self.0.path().join("nowhere"),
                _ => self.0.path().to_owned(),
            };
            Subject { folder, ..health::subject() }
        }
    }

    #[tokio::test]
    async fn it_keeps_what_every_check_must() {
        check_health(async |world| {
            let folder = tempfile::tempdir().unwrap();
            let content = match world {
                World::Healthy => format!("{}\n", health::subject().commit),
                World::Unhealthy => "\u{1b}[2J".repeat(1000),
                World::Absent => return Some(Release(folder, world)),
                // A file never keeps anybody waiting.
                World::Silent => return None,
            };
            std::fs::write(folder.path().join("BUILT_FROM"), content).unwrap();
            Some(Release(folder, world))
        })
        .await;
    }
}
