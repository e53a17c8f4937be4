//! Which release is live: the link `current`, and its turning.
//!
//! A new link is made beside and renamed over the old one, so that at every moment, and after any
//! death, it is the old or the new one; then the folder is synced, so that power cuts cannot undo
//! it. It takes no new block on the disk.

use eeveon_core::{Live, Permit, ReleaseNumber, StepError};
use rustix::{fs::FileType, io::Errno};

use crate::{
    HostError,
    error::Place,
    host::Inner,
    layout::{CURRENT, Name, link_to, linked, next_current},
    manifest::Status,
    target::Site,
};

impl Inner {
    /// Returns the release the link points to.
    pub(crate) fn live(&self, site: &Site) -> Result<Option<ReleaseNumber>, HostError> {
        let not_ours =
            |found: String| HostError::CurrentNotOurs { path: Place::new(&site.root.at(CURRENT)), found };
        match site.root.read_link(CURRENT) {
            Ok(to) => match linked(&to) {
                Some(release) => Ok(Some(release)),
                None => Err(not_ours(format!("it points to `{}`", Place::of_bytes(&to)))),
            },
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::INVAL) => {
                let is_folder =
                    site.root.look(CURRENT)?.is_some_and(|it| it.file_type() == FileType::Directory);
                Err(not_ours(format!("it is a {}", if is_folder { "folder" } else { "file" })))
            }
            Err(error) => Err(site.root.fault("read", CURRENT, error)),
        }
    }

    /// See [`eeveon_core::Traffic::serving`]. A link to a release that is gone serves nothing.
    pub(crate) fn serving(&self) -> Result<Option<Live>, StepError> {
        let Some(site) = self.site()? else { return Ok(None) };
        let Some(release) = self.live(&site)? else { return Ok(None) };
        if site.releases.look(&Name::Release(release).text())?.is_none() {
            tracing::warn!(%release, "`current` points to a release that is gone");
            return Ok(None);
        }
        Ok(Some(Live { release, endpoint: self.endpoint(release) }))
    }

    /// See [`eeveon_core::Traffic::turn`].
    pub(crate) fn turn(&self, permit: &Permit, to: Option<ReleaseNumber>) -> Result<(), StepError> {
        let site = match (self.site()?, to) {
            (Some(site), _) => site,
            (None, Some(release)) => return Err(self.missing(release).into()),
            (None, None) => return Ok(()),
        };
        site.change(permit, || {
            let now = self.live(&site)?;
            if let Some(release) = to {
                let folder = site.releases.look(&Name::Release(release).text())?;
                if folder.is_none_or(|meta| meta.file_type() != FileType::Directory) {
                    return Err(self.missing(release));
                }
                if !site.manifests.exists(release, Status::Sealed)? {
                    return Err(HostError::ReleaseUnsealed { release });
                }
            }
            match to {
                // An earlier call may have died before it synced the folder, so that is done again.
                _ if to == now => {}
                Some(release) => {
                    let next = next_current(permit.fence);
                    site.root.unlink(&next)?;
                    site.root.symlink(&link_to(release), &next)?;
                    site.root.rename(&next, &site.root, CURRENT)?;
                }
                None => site.root.unlink(CURRENT)?,
            }
            site.root.sync()
        })
    }
}
