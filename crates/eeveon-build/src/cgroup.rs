//! Limits by control groups, version 2 or 1, where this process may make them.
//!
//! A cage is one child group per hierarchy, made beside (version 2) or below (version 1) the group
//! this process is in, so that limits from outside go on holding.
//!
//! Source: <https://docs.kernel.org/admin-guide/cgroup-v2.html> and
//! <https://docs.kernel.org/admin-guide/cgroup-v1/>.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{fs::Access, process::Pid};

use crate::process::{self, Process};

/// How much of the machine a command may take.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// How far it steps back behind other processes, 0 to 19.
    pub nice: u8,
    /// Memory in bytes of all its processes together.
    pub memory_bytes: Option<u64>,
    /// How many processes and threads it may have at once.
    pub processes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { nice: 10, memory_bytes: None, processes: Some(4096) }
    }
}

/// Which limits hold on this machine.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Enforced {
    /// Memory.
    pub memory: bool,
    /// The number of processes.
    pub processes: bool,
}

/// Where cages can be made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cgroups {
    bases: Vec<PathBuf>,
    pub(crate) enforced: Enforced,
}

impl Cgroups {
    /// Finds out what this process may do.
    pub(crate) fn detect() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut found = Self::default();
        for hierarchy in hierarchies(&own, &mounts) {
            let Some(base) = hierarchy.base() else { continue };
            let probe = base.join(format!("eeveon-probe-{}", std::process::id()));
            let movable = rustix::fs::access(base.join("cgroup.procs"), Access::WRITE_OK).is_ok();
            if !movable || fs::create_dir(&probe).is_err() {
                continue;
            }
            let has = |files: [&str; 2]| files.iter().any(|file| probe.join(file).exists());
            found.enforced.memory |= has(MEMORY);
            found.enforced.processes |= probe.join(PROCESSES).exists();
            let _is_empty = fs::remove_dir(&probe);
            found.bases.push(base);
        }
        found
    }

    /// Returns the cage called `name`, which need not exist.
    pub(crate) fn cage(&self, name: &str) -> Cage {
        Cage { folders: self.bases.iter().map(|base| base.join(name)).collect() }
    }
}

/// The files that hold the limit on memory: version 2, version 1.
const MEMORY: [&str; 2] = ["memory.max", "memory.limit_in_bytes"];
/// The same for what may be swapped out, as far as the machine counts that: nothing in version 2;
/// in version 1 the limit is on both together.
const SWAP: [(&str, bool); 2] = [("memory.swap.max", false), ("memory.memsw.limit_in_bytes", true)];
const PROCESSES: &str = "pids.max";

/// One mounted hierarchy and the group this process is in.
#[derive(Debug, Eq, PartialEq)]
struct Hierarchy {
    mount: PathBuf,
    own: PathBuf,
    version2: bool,
}

impl Hierarchy {
    /// Returns the group that cages become children of.
    fn base(&self) -> Option<PathBuf> {
        let own = match self.own.is_dir() {
            true => &self.own,
            false => &self.mount,
        };
        if !self.version2 {
            return Some(own.clone());
        }
        // In version 2 a group with processes of its own cannot limit its children: cages become
        // siblings. Only the root may have both.
        let base = if own == &self.mount { own.as_path() } else { own.parent()? };
        if own == &self.mount {
            let available = fs::read_to_string(base.join("cgroup.controllers")).unwrap_or_default();
            for controller in available.split_whitespace().filter(|it| matches!(*it, "memory" | "pids")) {
                let _stays_off = fs::write(base.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
        Some(base.to_owned())
    }
}

/// Reads `/proc/self/cgroup` and `/proc/self/mountinfo` for the hierarchies that matter.
fn hierarchies(own: &str, mounts: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let mut before = before.split(' ').skip(3);
        let (Some(root), Some(mount)) = (before.next(), before.next()) else { continue };
        let mut after = after.split(' ');
        let (kind, options) = (after.next(), after.next_back().unwrap_or_default());
        let controller = match kind {
            Some("cgroup2") => "",
            Some("cgroup") => match options.split(',').find(|it| matches!(*it, "memory" | "pids")) {
                Some(controller) => controller,
                None => continue,
            },
            _ => continue,
        };
        let path = own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            controllers.split(',').any(|it| it == controller).then_some(path)
        });
        let Some(path) = path else { continue };
        let inside = Path::new(path).strip_prefix(root).or_else(|_| Path::new(path).strip_prefix("/"));
        let Ok(inside) = inside else { continue };
        let mount = PathBuf::from(mount);
        let own = if inside.as_os_str().is_empty() { mount.clone() } else { mount.join(inside) };
        let hierarchy = Hierarchy { own, mount, version2: controller.is_empty() };
        if !found.contains(&hierarchy) {
            found.push(hierarchy);
        }
    }
    found
}

/// A set of groups around one command and everything it starts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Cage {
    pub(crate) folders: Vec<PathBuf>,
}

impl Cage {
    /// Makes the groups and sets the limits. A limit the machine does not know is left out.
    pub(crate) fn make(&self, limits: &Limits) -> io::Result<()> {
        for folder in &self.folders {
            match fs::create_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => (),
            }
            if let Some(bytes) = limits.memory_bytes {
                for file in MEMORY {
                    set(folder, file, bytes)?;
                }
                for (file, counts_both) in SWAP {
                    set(folder, file, if counts_both { bytes } else { 0 })?;
                }
            }
            if let Some(processes) = limits.processes {
                set(folder, PROCESSES, processes)?;
            }
        }
        Ok(())
    }

    /// Puts a process into the groups.
    pub(crate) fn take_in(&self, pid: Pid) -> io::Result<()> {
        self.folders
            .iter()
            .try_for_each(|folder| fs::write(folder.join("cgroup.procs"), pid.as_raw_nonzero().to_string()))
    }

    /// Returns how many processes the kernel has killed for want of memory.
    pub(crate) fn out_of_memory(&self) -> u64 {
        let files = ["memory.events", "memory.oom_control"];
        let texts = self.folders.iter().flat_map(|folder| files.map(|file| folder.join(file)));
        texts
            .filter_map(|file| fs::read_to_string(file).ok())
            .filter_map(|text| {
                text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse::<u64>().ok())
            })
            .sum()
    }

    /// Lists what is inside and has not ended.
    pub(crate) fn inmates(&self) -> Vec<Process> {
        let files = self.folders.iter().map(|folder| folder.join("cgroup.procs"));
        let texts: Vec<_> = files.filter_map(|file| fs::read_to_string(file).ok()).collect();
        let mut pids: Vec<i32> = texts.iter().flat_map(|text| text.lines()).flat_map(str::parse).collect();
        pids.sort_unstable();
        pids.dedup();
        pids.into_iter().filter_map(|pid| process::look(Pid::from_raw(pid)?)).filter(|it| !it.ended).collect()
    }

    /// Kills whatever is inside.
    pub(crate) fn kill(&self) {
        for folder in &self.folders {
            // From Linux 5.14 in version 2; elsewhere no new process may come while we go through.
            let whole = folder.join("cgroup.kill");
            if whole.exists() && fs::write(whole, "1").is_ok() {
                continue;
            }
            let _no_such_limit = set(folder, PROCESSES, 0);
        }
        self.inmates().iter().for_each(process::kill);
    }

    /// Removes the groups, which takes the kernel a moment after the last process has ended.
    pub(crate) fn remove(&self) {
        for folder in &self.folders {
            let mut tries = 0..50;
            while let Err(error) = fs::remove_dir(folder) {
                if error.kind() == io::ErrorKind::NotFound {
                    break;
                }
                if tries.next().is_none() {
                    tracing::debug!(folder = %folder.display(), %error, "an empty cgroup stays behind");
                    break;
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Writes a limit if the group has it.
fn set(folder: &Path, file: &str, value: u64) -> io::Result<()> {
    let file = folder.join(file);
    match file.exists() {
        true => fs::write(file, value.to_string()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(own: &str, mounts: &str) -> Vec<(String, String, bool)> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        hierarchies(own, mounts).iter().map(|it| (text(&it.mount), text(&it.own), it.version2)).collect()
    }

    #[test]
    fn version_2_is_found() {
        let own = "0::/system.slice/eeveon.service/main\n";
        let mounts = "24 1 8:1 / / rw - ext4 /dev/sda rw\n\
                      30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let expected = "/sys/fs/cgroup/system.slice/eeveon.service/main";
        assert_eq!(found(own, mounts), [("/sys/fs/cgroup".to_owned(), expected.to_owned(), true)]);
    }

    #[test]
    fn version_1_is_found_by_controller() {
        let own = "9:name=systemd:/\n8:pids:/a\n4:memory:/docker/abc/b\n1:cpu,cpuacct:/\n0::/\n";
        let mounts = "32 31 0:29 / /c/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                      35 31 0:32 /docker/abc /c/memory rw - cgroup cgroup rw,memory\n\
                      39 31 0:36 / /c/pids rw - cgroup cgroup rw,pids\n\
                      41 31 0:38 / /c/unified rw - cgroup2 cgroup2 rw\n";
        let expected = [
            ("/c/memory".to_owned(), "/c/memory/b".to_owned(), false),
            ("/c/pids".to_owned(), "/c/pids/a".to_owned(), false),
            ("/c/unified".to_owned(), "/c/unified".to_owned(), true),
        ];
        assert_eq!(found(own, mounts), expected);
    }

    #[test]
    fn what_is_not_understood_is_no_hierarchy() {
        assert_eq!(found("", ""), []);
        assert_eq!(found("nonsense\n0:\n", "x - cgroup2\n1 2 3 4 5 - cgroup2 x rw\n"), []);
    }
}
