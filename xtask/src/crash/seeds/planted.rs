//! The bugs themselves: what is done to the program's calls while it runs, or to its source before it
//! is built.

use std::cell::Cell;

use nix::{errno::Errno, fcntl::OFlag, sys::stat::Mode, unistd::syncfs};

use super::super::{
    calls::{Call, Class},
    powercut::image::Kind,
    tracer::Blow,
};

/// A bug, and who must find it.
pub(super) struct Seed {
    /// How it is called.
    pub(super) name: &'static str,
    /// What is wrong.
    pub(super) what: &'static str,
    /// The scenario it shows in.
    pub(super) scenario: &'static str,
    /// Changes of the source, all needed for the bug; none when the calls are meddled with.
    pub(super) source: &'static [Change],
    /// Who must find it.
    pub(super) finder: Finder,
}

/// Text that is replaced in one file. It must be there once. `SEED` in its replacement is true when
/// the bug is to show.
pub(super) struct Change {
    pub(super) file: &'static str,
    pub(super) find: &'static str,
    pub(super) put: &'static str,
}

/// What finds a bug.
#[derive(Clone, Copy)]
pub(super) enum Finder {
    /// Kills at every call.
    Kills,
    /// Several processes that do different things at once.
    Rounds,
    /// A process held up until another one has taken over.
    HeldUp,
    /// Power cuts, on this file system, with the calls meddled with in this way.
    Power(Kind, fn(&State, &Call) -> Option<Blow>),
}

impl Finder {
    /// Returns how it is called.
    pub(super) fn name(self) -> String {
        match self {
            Self::Kills => "kills".to_owned(),
            Self::Rounds => "several at once".to_owned(),
            Self::HeldUp => "held up".to_owned(),
            Self::Power(kind, _) => format!("power cuts, {}", kind.name()),
        }
    }
}

/// What was seen of the program so far.
#[derive(Debug, Default)]
pub(super) struct State {
    switched: Cell<bool>,
    flushed: Cell<bool>,
}

/// All of them.
pub(super) const SEEDS: &[Seed] = &[
    Seed {
        name: "release-not-flushed",
        what: "the files of a release are never flushed",
        scenario: "incremental",
        source: &[],
        finder: Finder::Power(Kind::Ext4Lazy, |_, call| skip(call.name == "syncfs")),
    },
    Seed {
        name: "file-not-flushed",
        what: "a new file is renamed over the old one without being flushed",
        scenario: "configured",
        source: &[],
        finder: Finder::Power(Kind::Ext4Lazy, |_, call| {
            skip(call.class == Class::Sync && call.on.is_file() && call.on.to_string_lossy().contains("toml"))
        }),
    },
    Seed {
        name: "folder-not-flushed",
        what: "the folder a file was renamed in is not flushed",
        scenario: "configured",
        source: &[],
        finder: Finder::Power(Kind::Ext4Lazy, |_, call| skip(call.class == Class::Sync && call.on.is_dir())),
    },
    Seed {
        name: "link-not-flushed",
        what: "the folder of the link that was switched is not flushed",
        scenario: "rollback",
        source: &[],
        // On ext4 a flush of anything flushes all names, and the journal's follows right away.
        finder: Finder::Power(Kind::Btrfs, |_, call| {
            skip(call.class == Class::Sync && call.on.ends_with("site"))
        }),
    },
    Seed {
        name: "journal-not-flushed",
        what: "the journal is not flushed before a step that reaches the world",
        scenario: "rollback",
        source: &[],
        finder: Finder::Power(Kind::Ext4Lazy, |_, call| {
            skip(call.class == Class::Sync && call.on.to_string_lossy().contains("eeveon.db"))
        }),
    },
    Seed {
        name: "switch-before-flush",
        what: "the release is flushed, but only after it serves",
        scenario: "incremental",
        source: &[],
        finder: Finder::Power(Kind::Ext4Lazy, |state, call| {
            if state.switched.get() && !state.flushed.replace(true) {
                flush(call);
            }
            if call.class == Class::Rename && call.on.ends_with("site/current") {
                state.switched.set(true);
            }
            skip(call.name == "syncfs" && !state.switched.get())
        }),
    },
    Seed {
        name: "flush-error-ignored",
        what: "an error of a flush is taken for success",
        scenario: "incremental",
        source: &[Change {
            file: "crates/eeveon-host/src/ship.rs",
            find: "        if let Err(error) = synced {\n            // The system",
            put: "        if let Err(error) = synced && !SEED {\n            // The system",
        }],
        finder: Finder::Power(Kind::Ext4Lazy, |_, call| {
            (call.name == "syncfs").then_some(Blow::Fail(Errno::EIO))
        }),
    },
    Seed {
        name: "acts-before-recording",
        what: "a step is recorded as begun only when it is done",
        scenario: "incremental",
        source: &[
            Change {
                file: "eeveon-core/src/engine.rs",
                find: "                self.write(&mut ledger, Record::Started { step: key.clone(), attempt }).await?;\n",
                put: "                if !SEED {\n                self.write(&mut ledger, Record::Started { step: key.clone(), attempt }).await?;\n                }\n",
            },
            Change {
                file: "eeveon-core/src/engine.rs",
                find: "                Ok(action) => action.run(&context).await,\n",
                put: "                Ok(action) => {\n                    let done = action.run(&context).await;\n                    if SEED { self.record(Record::Started { step: key.clone(), attempt }).await?; }\n                    done\n                }\n",
            },
        ],
        finder: Finder::Kills,
    },
    Seed {
        name: "undo-forgotten",
        what: "the switch is not taken back",
        scenario: "reverted",
        source: &[Change {
            file: "eeveon-core/src/deployer.rs",
            find: "        self.0.traffic(&turn.target)?.turn(&cx.permit, &turn.target, turn.from.as_ref()).await\n",
            put: "        if SEED { return Ok(()) }\n        self.0.traffic(&turn.target)?.turn(&cx.permit, &turn.target, turn.from.as_ref()).await\n",
        }],
        finder: Finder::Kills,
    },
    Seed {
        name: "undo-only-once",
        what: "taking back fails where there is nothing left to take back",
        scenario: "reverted",
        source: &[Change {
            file: "crates/eeveon-host/src/live.rs",
            find: "                _ if to == now => {}\n",
            put: "                Some(release) if to == now && SEED => return Err(self.missing(release)),\n                _ if to == now => {}\n",
        }],
        finder: Finder::Kills,
    },
    Seed {
        name: "link-made-in-place",
        what: "the old link is removed before the new one is made",
        scenario: "incremental",
        source: &[Change {
            file: "crates/eeveon-host/src/live.rs",
            find: "                    site.root.unlink(&next)?;\n",
            put: "                    site.root.unlink(&next)?;\n                    if SEED { site.root.unlink(CURRENT)?; }\n",
        }],
        finder: Finder::Kills,
    },
    Seed {
        name: "file-written-in-place",
        what: "a file is written over instead of replaced",
        scenario: "configured",
        source: &[Change {
            file: "eeveon-cli/src/home.rs",
            find: "    let beside = folder.join(format!(\"{TEMPORARY}{}-{file_name}\", std::process::id()));\n",
            put: "    if SEED && replace == Replace::Always { return fs::write(path, content) }\n    let beside = folder.join(format!(\"{TEMPORARY}{}-{file_name}\", std::process::id()));\n",
        }],
        finder: Finder::Kills,
    },
    Seed {
        name: "quarantine-lost",
        what: "a commit that failed is not put aside with the end of its deployment",
        scenario: "reverted",
        source: &[Change {
            file: "crates/eeveon-store/src/sqlite/journals.rs",
            find: "    for what in &follows.put_aside {\n",
            put: "    for what in follows.put_aside.iter().filter(|_| !SEED) {\n",
        }],
        finder: Finder::Kills,
    },
    Seed {
        name: "retention-takes-what-serves",
        what: "the release that serves is removed with the old ones",
        scenario: "retention",
        source: &[
            Change {
                file: "eeveon-rollback/src/retention.rs",
                find: "    gone.into_iter().collect()\n",
                put: "    if SEED { gone.extend(roles.next); }\n    gone.into_iter().collect()\n",
            },
            Change {
                file: "crates/eeveon-host/src/remove.rs",
                find: "            Ok(Some(live)) if live == release => Err",
                put: "            Ok(Some(live)) if live == release && !SEED => Err",
            },
        ],
        finder: Finder::Kills,
    },
    Seed {
        name: "dead-left-alone",
        what: "nobody settles what a dead process left",
        scenario: "incremental",
        source: &[Change {
            file: "eeveon-cli/src/settling.rs",
            find: "        let settled = settle_project(app, &project, &held).await;\n",
            put: "        let settled = if SEED { Ok(()) } else { settle_project(app, &project, &held).await };\n",
        }],
        finder: Finder::Kills,
    },
    Seed {
        name: "leftovers-stay",
        what: "half-made releases are not swept away",
        scenario: "first",
        source: &[
            Change {
                file: "crates/eeveon-host/src/remove.rs",
                find: "                self.set_aside(&site, permit, release)?;\n",
                put: "                self.set_aside(&site, permit, release)?;\n                if SEED { return Ok(()) }\n",
            },
            Change {
                file: "crates/eeveon-host/src/remove.rs",
                find: "                    if fence != permit.fence =>\n",
                put: "                    if fence != permit.fence && !SEED =>\n",
            },
        ],
        finder: Finder::Kills,
    },
    Seed {
        name: "news-after-the-cursor",
        what: "letters are written after the cursor has moved, not together with it",
        scenario: "notified",
        source: &[Change {
            file: "crates/eeveon-daemon/src/courier/post.rs",
            find: "            self.store.post(FOLLOWER, upto, &letters).await?;\n",
            put: "            if SEED { self.store.post(FOLLOWER, upto, &[]).await?; }\n            self.store.post(FOLLOWER, upto, &letters).await?;\n",
        }],
        finder: Finder::Kills,
    },
    Seed {
        name: "fence-not-checked",
        what: "who was passed over may still change the target",
        // What is deployed anew is taken away by whoever takes over.
        scenario: "rollback",
        source: &[Change {
            file: "crates/eeveon-host/src/target.rs",
            find: "        if seen > ours {\n            return Err(HostError::Fenced",
            put: "        if seen > ours && !SEED {\n            return Err(HostError::Fenced",
        }],
        finder: Finder::HeldUp,
    },
    Seed {
        name: "lease-for-everybody",
        what: "a lease is taken from its holder although it lives",
        scenario: "rollback",
        source: &[Change {
            file: "crates/eeveon-store/src/lease.rs",
            find: "        && holder.remaining_ms > 0\n",
            put: "        && holder.remaining_ms > 0\n        && !SEED\n",
        }],
        finder: Finder::Rounds,
    },
];

fn skip(this: bool) -> Option<Blow> {
    this.then_some(Blow::Skip)
}

/// Flushes everything on the file system the call is about.
fn flush(call: &Call) {
    let folder = call.on.ancestors().find(|it| it.is_dir());
    let opened = folder.and_then(|it| nix::fcntl::open(it, OFlag::O_RDONLY, Mode::empty()).ok());
    // If it fails, so does what follows from it: the seed is not found, or found for more than it is.
    let _ = opened.map(syncfs);
}
