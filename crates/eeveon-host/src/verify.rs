//! Is a release what it was when it was sealed?
//!
//! Every path is looked at; only what the ledger does not vouch for is read.

use std::fmt;

use eeveon_core::{Permit, ReleaseNumber, StepError};
use rustix::{fs::FileType, io::Errno};

use crate::{
    HostError, crew,
    disk::{Folder, Meta, split},
    error::Place,
    hash,
    host::Inner,
    layout::Name,
    ledger::{Known, Ledger, content_of},
    manifest::{Manifest, Record, Status, mode_of},
    target::Site,
    tree::{Node, Tree},
};

/// How a path of a release is not what it was when the release was sealed.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Difference {
    /// Relative to the release; not necessarily UTF-8.
    pub path: Vec<u8>,
    /// How.
    pub how: Change,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Change {
    /// It is gone.
    Missing,
    /// It was not there.
    Extra,
    /// It is something else: a folder where a file was, say.
    Kind,
    /// Its content, or what it points to, is another.
    Content,
    /// Its permissions are others.
    Mode,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Missing => "missing",
            Self::Extra => "not part of the release",
            Self::Kind => "something else than it was",
            Self::Content => "changed",
            Self::Mode => "permissions changed",
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Place::of_bytes(&self.path), self.how)
    }
}

/// What a look at a whole release found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Sorted by path.
    pub(crate) differences: Vec<Difference>,
    /// What is known now about files that had to be read.
    pub(crate) known: Vec<Known>,
}

/// A sealed release and its manifest.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) folder: Folder,
    pub(crate) manifest: Manifest,
}

impl Inner {
    /// Opens a release that was sealed.
    pub(crate) fn sealed(&self, site: &Site, release: ReleaseNumber) -> Result<Sealed, HostError> {
        let folder = match site.releases.enter(&Name::Release(release).text()) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Err(self.missing(release)),
            Err(error) => return Err(site.releases.fault("open", &Name::Release(release).text(), error)),
        };
        match site.manifests.read(release, Status::Sealed)? {
            Some(manifest) => Ok(Sealed { folder, manifest }),
            None => Err(HostError::ReleaseUnsealed { release }),
        }
    }

    /// See [`crate::Host::compare`].
    pub(crate) fn compare(
        &self,
        permit: &Permit,
        release: ReleaseNumber,
    ) -> Result<Vec<Difference>, StepError> {
        let site = self.site_of(release)?;
        let sealed = self.sealed(&site, release)?;
        Ok(verify(permit, &sealed, &Ledger::load(&site.own))?.differences)
    }
}

/// Compares a release with its manifest.
pub(crate) fn verify(permit: &Permit, sealed: &Sealed, ledger: &Ledger) -> Result<Findings, StepError> {
    let Sealed { folder, manifest } = sealed;
    let records = manifest.records();
    let tree = Tree::new(records.iter().map(|record| (manifest.path(record), record.is_folder())));
    let shares = crew::share(permit, &tree.folders, |rest| {
        let mut look =
            Look { manifest, tree: &tree, ledger, findings: Findings::default(), buffer: Vec::new() };
        for node in rest {
            permit.check()?;
            look.folder(folder, node)?;
        }
        Ok(look.findings)
    })?;
    let mut all = Findings::default();
    for share in shares {
        all.differences.extend(share.differences);
        all.known.extend(share.known);
    }
    all.differences.sort_unstable();
    Ok(all)
}

/// One thread's look.
struct Look<'a> {
    manifest: &'a Manifest,
    tree: &'a Tree<'a>,
    ledger: &'a Ledger,
    findings: Findings,
    buffer: Vec<u8>,
}

impl Look<'_> {
    fn found(&mut self, path: &[u8], how: Change) {
        self.findings.differences.push(Difference { path: path.to_vec(), how });
    }

    fn folder(&mut self, root: &Folder, node: &Node<'_>) -> Result<(), HostError> {
        let entries = || node.entries.iter().filter_map(|at| self.manifest.records().get(*at));
        let folder = match root.descend(node.path) {
            Ok(folder) => folder,
            Err(Errno::ACCESS) => {
                self.found(node.path, Change::Mode);
                return Ok(());
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                let lost: Vec<_> = entries().map(|record| self.manifest.path(record)).collect();
                self.found(node.path, Change::Missing);
                for path in lost {
                    self.found(path, Change::Missing);
                }
                return Ok(());
            }
            Err(error) => return Err(root.fault("open", node.path, error)),
        };
        let expected = match self.manifest.find(node.path) {
            Some(record) => record.permissions(),
            None => mode_of(eeveon_core::FileKind::Folder) & 0o7777,
        };
        if folder.meta()?.permissions() != expected {
            self.found(node.path, Change::Mode);
        }

        let mut expected: Vec<&[u8]> =
            node.folders.iter().filter_map(|at| self.tree.folders.get(*at)).map(|it| it.path).collect();
        for record in node.entries.iter().filter_map(|at| self.manifest.records().get(*at)) {
            let path = self.manifest.path(record);
            expected.push(path);
            if let Some(how) = self.path(&folder, record, split(path).1)? {
                self.found(path, how);
            }
        }
        let mut expected: Vec<&[u8]> = expected.into_iter().map(|path| split(path).1).collect();
        expected.sort_unstable();
        for (name, _) in folder.names()? {
            if expected.binary_search(&name.as_slice()).is_err() {
                let path = if node.path.is_empty() { name } else { [node.path, b"/", &name].concat() };
                self.found(&path, Change::Extra);
            }
        }
        Ok(())
    }

    fn path(&mut self, folder: &Folder, record: &Record, name: &[u8]) -> Result<Option<Change>, HostError> {
        let Some(meta) = folder.look(name)? else { return Ok(Some(Change::Missing)) };
        if meta.file_type() != record.file_type() {
            return Ok(Some(Change::Kind));
        }
        if record.file_type() == FileType::Symlink {
            let to = folder.read_link(name).map_err(|error| folder.fault("read", name, error))?;
            return Ok((hash::of_bytes(&to) != Some(record.id)).then_some(Change::Content));
        }
        if !self.has_content(folder, record, name, &meta)? {
            return Ok(Some(Change::Content));
        }
        Ok((meta.permissions() != record.permissions()).then_some(Change::Mode))
    }

    fn has_content(
        &mut self,
        folder: &Folder,
        record: &Record,
        name: &[u8],
        meta: &Meta,
    ) -> Result<bool, HostError> {
        if meta.size != record.size {
            return Ok(false);
        }
        let id = match content_of(folder, name, meta, self.ledger, &mut self.buffer) {
            // Whether or not it has changed: nobody could serve it like that.
            Err(HostError::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
                None
            }
            content => content?,
        };
        if let Some(id) = id.filter(|_| self.ledger.content(meta).is_none()) {
            self.findings.known.push(Known::new(meta, id));
        }
        Ok(id == Some(record.id))
    }
}
