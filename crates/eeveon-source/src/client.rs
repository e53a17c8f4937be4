//! One conversation with a git server: what its refs name, and a pack of what we lack.
//!
//! Source: protocol version 2, <https://git-scm.com/docs/protocol-v2>; version 0, which servers
//! that do not pass `GIT_PROTOCOL` on speak, <https://git-scm.com/docs/pack-protocol>.

use std::{
    io::{self, BufRead, Read},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, atomic::AtomicBool},
};

use eeveon_core::{Permit, Progress};
use gix::{
    ObjectId,
    bstr::ByteSlice,
    progress::{Discard, DynNestedProgress},
    protocol::{
        self, Handshake, LsRefsCommand,
        fetch::{Arguments, Context, Options, Response, Shallow, Tags, negotiate},
        handshake::Ref,
        ls_refs::RefPrefixes,
        transport::{Protocol, Service, client::Capabilities},
    },
};

use crate::{
    Limits, RepoUrl, SourceConfig, SourceError, http,
    refs::shown,
    transport::{self, Line},
    url::Place,
    watch::Watch,
};

/// How we call ourselves.
const AGENT: &str = concat!("git/eeveon-", env!("CARGO_PKG_VERSION"));
/// How often progress is reported, in bytes.
const REPORT: u64 = 64 * 1024;

/// A conversation that has begun.
pub(crate) struct Conversation {
    line: Line,
    handshake: Handshake,
    watch: Arc<Watch>,
}

/// What a fetch brought.
pub(crate) struct Received {
    /// The size of the pack, in bytes.
    pub(crate) bytes: u64,
    /// The files written: pack and index.
    pub(crate) files: Vec<PathBuf>,
    /// A file that protects the pack from being collected; to be removed when refs protect it.
    pub(crate) keep: Option<PathBuf>,
}

impl Received {
    /// Stores a pack in `repo`, checking every object's hash, in several threads unless told otherwise.
    pub(crate) fn store(
        repo: &gix::Repository,
        pack: &mut dyn BufRead,
        limits: &Limits,
        threads: Option<usize>,
        progress: &mut dyn DynNestedProgress,
        interrupt: &AtomicBool,
    ) -> gix::Result<Self> {
        let written = gix::odb::pack::Bundle::write_to_directory(
            pack,
            Some(&repo.objects.store_ref().path().join("pack")),
            progress,
            interrupt,
            Some(repo.objects.clone()),
            repo.object_hash(),
            gix::odb::pack::bundle::write::Options {
                thread_limit: threads,
                alloc_limit_bytes: usize::try_from(limits.object_bytes).ok(),
                ..Default::default()
            },
        )?;
        let files = [written.data_path, written.index_path].into_iter().flatten().collect();
        Ok(Self { bytes: 0, files, keep: written.keep_path })
    }
}

/// What to ask for.
pub(crate) struct Request {
    pub(crate) wants: Vec<ObjectId>,
    pub(crate) haves: Vec<ObjectId>,
    pub(crate) shallow: Shallow,
}

impl Conversation {
    /// Connects to `url` and greets. `kept` holds the http client between conversations.
    pub(crate) fn open(
        url: &RepoUrl,
        config: &SourceConfig,
        kept: &OnceLock<reqwest::Client>,
        permit: &Permit,
    ) -> Result<Self, SourceError> {
        permit.check()?;
        let watch = Arc::new(Watch::new(url.to_string(), permit.clone(), config.limits.clone()));
        let credentials = &config.credentials;
        let mut line = match &url.0 {
            Place::Http { user, .. } => {
                let client = match kept.get() {
                    Some(client) => client.clone(),
                    None => {
                        let client = config.clients.of(config)?;
                        kept.get_or_init(|| client).clone()
                    }
                };
                http::connect(client, url, user.as_deref(), config, &watch)?
            }
            Place::Ssh { user, host, port, path } => {
                transport::ssh(user.as_deref(), host, *port, path, credentials, &watch)?
            }
            Place::Daemon { host, port, path } => transport::daemon(host, *port, path, &watch)?,
            Place::Local { path } => {
                look_at(path, url)?;
                transport::local(path, credentials, &watch)?
            }
        };
        // Credentials are sent with the request or not at all; nobody is asked for any.
        let nobody = |_| Ok(None);
        let mut handshake =
            protocol::handshake(&mut line.transport, Service::UploadPack, nobody, Vec::new(), &mut Discard)
                .map_err(|error| watch.explain(&error))?;
        let format = handshake.capabilities.capability("object-format");
        if let Some(format) = format.and_then(|capability| capability.value().map(ToOwned::to_owned))
            && format != "sha1"
        {
            return Err(SourceError::ObjectFormat {
                repo: url.to_string(),
                format: shown(&format.to_str_lossy()),
            });
        }
        if handshake.server_protocol_version != Protocol::V2 {
            without_relative(&mut handshake).map_err(|error| watch.explain(&error))?;
        }
        Ok(Self { line, handshake, watch })
    }

    /// Lists the refs whose names begin with one of `prefixes`; perhaps others too.
    pub(crate) fn refs(&mut self, prefixes: &[&str]) -> Result<Vec<Ref>, SourceError> {
        if let Some(refs) = &self.handshake.refs {
            return Ok(refs.clone());
        }
        let mut asked = RefPrefixes::new();
        asked.extend(prefixes.iter().map(|prefix| (*prefix).into()));
        let agent = ("agent", Some(AGENT.to_owned()));
        LsRefsCommand::new(Some(asked), &self.handshake.capabilities, agent)
            .invoke_blocking(&mut self.line.transport, &mut Discard, false)
            .map_err(|error| self.watch.explain(&error))
    }

    /// Whether any commit can be asked for, and not only what refs name.
    pub(crate) fn serves_any_commit(&self) -> bool {
        self.handshake.server_protocol_version == Protocol::V2
            || self.handshake.capabilities.contains("allow-reachable-sha1-in-want")
    }

    /// Fetches what `request` asks for into `repo`, checking every object's hash.
    pub(crate) fn fetch(
        &mut self,
        repo: &gix::Repository,
        request: Request,
        interrupt: &AtomicBool,
    ) -> Result<Received, SourceError> {
        let watch = Arc::clone(&self.watch);
        let mut received = Received { bytes: 0, files: Vec::new(), keep: None };
        let mut plan = OneRound(&request);
        let failed = |error: gix::Error| watch.explain(&error);
        let shallow_file = repo.shallow_file().map_err(failed)?;
        let outcome = protocol::fetch(
            &mut plan,
            |pack, progress, interrupt| {
                let mut metered = Metered { inner: pack, watch: &watch, bytes: 0, reported: 0 };
                received = Received::store(repo, &mut metered, &watch.limits, None, progress, interrupt)?;
                received.bytes = metered.bytes;
                Ok(true)
            },
            Discard,
            interrupt,
            Context {
                handshake: &mut self.handshake,
                transport: &mut self.line.transport,
                user_agent: ("agent", Some(AGENT.to_owned())),
                trace_packetlines: false,
            },
            Options {
                shallow_file,
                shallow: &request.shallow,
                tags: Tags::None,
                reject_shallow_remote: false,
            },
        );
        match outcome {
            Ok(_) => {}
            Err(_) if watch.permit.check().is_err() => return Err(eeveon_core::action::Stopped.into()),
            Err(error) => return Err(watch.explain_at(&error, repo.git_dir())),
        }
        watch.permit.report(Progress::Bytes { done: received.bytes, total: Some(received.bytes) });
        Ok(received)
    }
}

/// Says goodbye, so that the other side does not complain of a broken connection.
impl Drop for Conversation {
    fn drop(&mut self) {
        if self.handshake.server_protocol_version == Protocol::V2 {
            protocol::indicate_end_of_interaction(&mut self.line.transport, false).ok();
        }
    }
}

/// Takes `deepen-relative` from what a server of version 0 offers: gix asks for all that is offered,
/// and this would change what every depth means.
fn without_relative(handshake: &mut Handshake) -> gix::Result {
    let mut offered = vec![0];
    for capability in
        handshake.capabilities.iter().filter(|capability| capability.name() != "deepen-relative")
    {
        offered.extend_from_slice(capability.name());
        if let Some(value) = capability.value() {
            offered.push(b'=');
            offered.extend_from_slice(value);
        }
        offered.push(b' ');
    }
    handshake.capabilities = Capabilities::from_bytes(offered.trim_ascii_end())?.0;
    Ok(())
}

/// Tells a folder that is no repository from none at all, before git is started.
fn look_at(path: &str, url: &RepoUrl) -> Result<(), SourceError> {
    let (folder, dotted) = (Path::new(path), Path::new(path).join(".git"));
    // Git also finds `x.git` for `x`.
    let suffixed = PathBuf::from(format!("{}.git", path.trim_end_matches('/')));
    if !folder.exists() && !suffixed.exists() {
        return Err(SourceError::RepositoryMissing { repo: url.to_string() });
    }
    let bare = folder.join("HEAD").exists() && folder.join("objects").exists();
    match bare || folder.is_file() || dotted.exists() || suffixed.exists() {
        true => Ok(()),
        false => Err(SourceError::NotARepository { repo: url.to_string() }),
    }
}

/// Says in one go what we want and have. The server then sends what is missing; it is never asked
/// which of ours it knows, because ours are few.
struct OneRound<'a>(&'a Request);

impl protocol::fetch::Negotiate for OneRound<'_> {
    fn mark_complete_and_common_ref(&mut self) -> gix::Result<negotiate::Action> {
        Ok(negotiate::Action::MustNegotiate { remote_ref_target_known: Vec::new() })
    }

    fn add_wants(&mut self, arguments: &mut Arguments, _known: &[bool]) -> bool {
        for want in &self.0.wants {
            arguments.want(want);
        }
        !self.0.wants.is_empty()
    }

    fn one_round(
        &mut self,
        _state: &mut negotiate::one_round::State,
        arguments: &mut Arguments,
        _previous: Option<&Response>,
    ) -> gix::Result<(negotiate::Round, bool)> {
        for have in &self.0.haves {
            arguments.have(have);
        }
        let sent = self.0.haves.len();
        let round = negotiate::Round {
            haves_sent: sent,
            in_vain: 0,
            haves_to_send: sent,
            previous_response_had_at_least_one_in_common: false,
        };
        Ok((round, true))
    }
}

/// Counts a pack's bytes, refuses too many, and tells how far it has come.
struct Metered<'a> {
    inner: &'a mut dyn BufRead,
    watch: &'a Watch,
    bytes: u64,
    reported: u64,
}

impl Metered<'_> {
    fn count(&mut self, more: usize) -> io::Result<()> {
        self.bytes += more as u64;
        if self.bytes > self.watch.limits.pack_bytes {
            let limit = self.watch.limits.pack_bytes;
            return Err(self.watch.fail(SourceError::PackTooLarge { repo: self.watch.repo.clone(), limit }));
        }
        if self.bytes - self.reported >= REPORT {
            self.reported = self.bytes;
            self.watch.check()?;
            self.watch.permit.report(Progress::Bytes { done: self.bytes, total: None });
        }
        Ok(())
    }
}

impl Read for Metered<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(out)?;
        self.watch.was_pack(count);
        self.count(count)?;
        Ok(count)
    }
}

impl BufRead for Metered<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        // Whatever is handed out here counts when it is consumed.
        if self.bytes > self.watch.limits.pack_bytes {
            self.count(0)?;
        }
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.inner.consume(count);
        self.watch.was_pack(count);
        self.bytes += count as u64;
    }
}
