//! Makes one pack of many. Every fetch adds one, and each makes finding an object slower.

use std::{io, path::Path, sync::Arc, time::Duration};

use eeveon_core::Permit;

use crate::{
    Limits, Mirror, SourceError,
    mirror::{Inner, MODULES, entries, has_extension, is_half_made, remove, sync},
    transfer::Job,
    transport,
    watch::Watch,
};

/// So many packs are left alone.
const PACKS: usize = 20;

impl Mirror {
    /// Replaces the packs of the mirror, and of those of its submodules, by one each when they are
    /// many. What no ref of ours reaches goes. The caller must hold the project's lease; others may
    /// read meanwhile. Returns how many bytes were freed; 0 when `git` is not installed.
    ///
    /// Killed midway it loses nothing, and [`Mirror::sweep`] removes what it leaves.
    ///
    /// # Errors
    ///
    /// `source/io`, also when git finds the mirror damaged; the packs are then as before.
    pub async fn compact(&self, permit: &Permit) -> Result<u64, SourceError> {
        self.run(permit, |inner, job| inner.compact(&job)).await
    }
}

impl Inner {
    fn compact(&self, job: &Job) -> Result<u64, SourceError> {
        let mut freed = self.compact_one(&self.path, job)?;
        let modules = self.path.join(MODULES);
        if modules.exists() {
            for module in entries(&modules)? {
                if has_extension(&module, "git") && !is_half_made(&module) {
                    freed += self.compact_one(&module, job)?;
                }
            }
        }
        Ok(freed)
    }

    fn compact_one(&self, path: &Path, job: &Job) -> Result<u64, SourceError> {
        job.permit.check()?;
        let folder = path.join("objects/pack");
        let before = entries(&folder)?;
        let packs: Vec<_> = before.iter().filter(|file| has_extension(file, "pack")).collect();
        if packs.len() <= PACKS {
            return Ok(0);
        }
        let Some(name) = self.pack_all(path, job)? else { return Ok(0) };
        let new = folder.join(format!("pack-{name}.pack"));
        // On disk for good before anything it replaces goes.
        let mut added = 0;
        for file in [&new, &new.with_extension("idx")] {
            sync(file)?;
            let is_old = before.contains(file);
            added += if is_old { 0 } else { file.metadata().map_or(0, |metadata| metadata.len()) };
        }
        sync(&folder)?;
        let mut freed = 0;
        for pack in packs.into_iter().filter(|pack| **pack != new) {
            // The index first and the pack last: a pack without an index is swept.
            freed += remove(&pack.with_extension("idx"))?;
            for file in before.iter().filter(|file| file.file_stem() == pack.file_stem()) {
                freed += if file == pack { 0 } else { remove(file)? };
            }
            freed += remove(pack)?;
        }
        tracing::debug!(path = %path.display(), freed, added, "compacted");
        Ok(freed.saturating_sub(added))
    }

    /// Lets git write a pack of all that refs reach, down to where history was cut. Returns its name;
    /// `None` when there is no git, or nothing to pack.
    ///
    /// Source: git-pack-objects(1), <https://git-scm.com/docs/git-pack-objects>.
    fn pack_all(&self, path: &Path, job: &Job) -> Result<Option<String>, SourceError> {
        // It is silent while it works.
        let limits = Limits { idle: Duration::MAX, ..self.config.limits.clone() };
        let watch = Arc::new(Watch::new(path.display().to_string(), job.permit.clone(), limits));
        let mut command = transport::git(&self.config.credentials);
        command.current_dir(path).arg("--git-dir=.");
        for setting in [
            "core.hooksPath=/dev/null",
            "gc.auto=0",
            "pack.threads=1",
            "pack.windowMemory=64m",
            "pack.writeReverseIndex=false",
        ] {
            command.args(["-c", setting]);
        }
        command.args(["pack-objects", "--all", "--non-empty", "--delta-base-offset", "--quiet"]);
        command.args(["--", "objects/pack/pack"]);
        let (written, succeeded) = match transport::run(command, "git", "git", &watch) {
            Err(SourceError::ToolMissing { .. }) => return Ok(None),
            outcome => outcome?,
        };
        let name = written.trim();
        if !succeeded || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let said = io::Error::other(watch.said());
            return Err(SourceError::io("compact", path)(said));
        }
        Ok(Some(name.to_owned()).filter(|name| !name.is_empty()))
    }
}
