//! How much memory this process may take before the kernel ends it without a word.
//!
//! That is the least of what the machine has (`MemTotal`), what the control groups of the process
//! allow (versions 1 and 2, its own group and those above it, as far as they can be seen from
//! here) and the limit of its address space (`RLIMIT_AS`). Whoever bounds what strangers can make
//! the daemon hold takes a share of it.
//!
//! It is read at the start only, before the sandbox closes.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::{Component, Path, PathBuf};

use aquatic_config::MemoryLimit;

/// What the process may take, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryAtHand {
    /// In bytes.
    pub bytes: u64,
    /// Where that is from.
    pub source: Source,
}

/// What bounds the memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// What the machine has.
    Machine,
    /// A control group.
    Cgroup,
    /// `RLIMIT_AS`.
    AddressSpace,
}

impl MemoryAtHand {
    /// That of this process; `None` where there is no `/proc`.
    #[must_use]
    pub fn find() -> Option<Self> {
        Self::find_below(Path::new("/"))
    }

    /// The same, with `/proc` and the control groups in the directory `root`.
    fn find_below(root: &Path) -> Option<Self> {
        let read = |path| fs::read_to_string(root.join(path)).unwrap_or_default();
        let (groups, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
        let machine = mem_total(&read("proc/meminfo")).map(|bytes| (bytes, Source::Machine));
        let limits = limit_files(&groups, &mounts);
        let groups = limits.into_iter().filter_map(|file| {
            let text = fs::read_to_string(below(root, &file)).ok()?;
            Some((text.trim().parse().ok()?, Source::Cgroup))
        });
        let address_space = address_space(&read("proc/self/limits"));
        let address_space = address_space.map(|bytes| (bytes, Source::AddressSpace));
        let all = machine.into_iter().chain(groups).chain(address_space);
        let (bytes, source) = all.min_by_key(|(bytes, _)| *bytes)?;
        Some(Self { bytes, source })
    }
}

impl Display for MemoryAtHand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let of = match self.source {
            Source::Machine => "that the machine has",
            Source::Cgroup => "that the control group may have",
            Source::AddressSpace => "of address space (RLIMIT_AS)",
        };
        write!(f, "{} bytes {of}", self.bytes)
    }
}

/// The bound in bytes that an operator has set as the value of `key`, told in the log; `None` if
/// there is none.
#[must_use]
pub fn resolve(key: &str, limit: MemoryLimit, at_hand: Option<MemoryAtHand>) -> Option<u64> {
    let bytes = limit.bytes(at_hand.map(|memory| memory.bytes));
    match (limit, bytes, at_hand) {
        (MemoryLimit::Share(_), Some(bytes), Some(memory)) => {
            log::info!("`{key}` = \"{limit}\": {bytes} bytes, of {memory}");
        }
        (MemoryLimit::Share(_), ..) => log::warn!(
            "`{key}` = \"{limit}\": the system does not tell how much memory there is, so there is \
             no bound; set one in bytes, such as \"512 MiB\""
        ),
        (_, Some(bytes), _) => log::info!("`{key}` = \"{limit}\": {bytes} bytes"),
        (_, None, _) => log::info!("`{key}` = \"{limit}\": no bound"),
    }
    if let (MemoryLimit::Bytes(bytes), Some(memory)) = (limit, at_hand)
        && bytes > memory.bytes
    {
        log::warn!("`{key}` = \"{limit}\" is more than is at hand: {memory}");
    }
    bytes
}

/// `MemTotal` of `/proc/meminfo`, in bytes (proc_meminfo(5)).
fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1_024)
}

/// The soft limit of the address space in `/proc/self/limits`, if there is one.
fn address_space(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The files with the limits of all groups of the process, from `/proc/self/cgroup` (cgroups(7))
/// and `/proc/self/mountinfo` (proc_pid_mountinfo(5)). Not all need to exist.
fn limit_files(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let hierarchies = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next()?, fields.next()?);
        let is_v2 = controllers.is_empty();
        (is_v2 || has_memory(controllers)).then_some((is_v2, group))
    });
    let mut files = Vec::new();
    for (is_v2, group) in hierarchies {
        let name = match is_v2 {
            true => "memory.max",
            false => "memory.limit_in_bytes",
        };
        for (root, point) in mounts.lines().filter_map(|line| mount(line, is_v2)) {
            // The group itself, and each group above it up to where the hierarchy is mounted.
            for group in below_mount(group, &root).ancestors() {
                files.push(point.join(group).join(name));
            }
        }
    }
    files
}

fn has_memory(controllers: &str) -> bool {
    controllers.split(',').any(|name| name == "memory")
}

/// Where a tree of control groups, or a part of it, can be seen, if that is what a line of
/// `mountinfo` is about: the group at the mount point, and the mount point.
fn mount(line: &str, is_v2: bool) -> Option<(PathBuf, PathBuf)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut file_system = file_system.split(' ');
    let (kind, options) = (file_system.next()?, file_system.nth(1)?);
    let is_meant = match is_v2 {
        true => kind == "cgroup2",
        false => kind == "cgroup" && has_memory(options),
    };
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    is_meant.then(|| (unescape(root), unescape(point)))
}

/// A group as a path below the mount point, where `root` is. A group that cannot be seen from here
/// (a container sees its own at the mount point, whatever its name is outside) is taken for the
/// latter.
fn below_mount<'a>(group: &'a str, root: &Path) -> &'a Path {
    let group = Path::new(group).strip_prefix(root);
    let is_plain = |path: &&Path| {
        let mut components = path.components();
        components.all(|component| matches!(component, Component::Normal(_)))
    };
    group.ok().filter(is_plain).unwrap_or(Path::new(""))
}

/// A path of `mountinfo`, where blanks and backslashes are octal numbers.
fn unescape(path: &str) -> PathBuf {
    let blanks = path.replace("\\040", " ").replace("\\011", "\t");
    blanks.replace("\\134", "\\").into()
}

/// An absolute path, looked up in the directory `root`.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const MIB: u64 = 1 << 20;
    const MEMINFO: &str = "MemTotal:       16384 kB\nMemFree:         1024 kB\n";
    const UNLIMITED: &str = "\
        Limit                     Soft Limit           Hard Limit           Units     \n\
        Max address space         unlimited            unlimited            bytes     \n";

    /// A directory with these files.
    fn root(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn found(files: &[(&str, &str)]) -> Option<(u64, Source)> {
        let memory = MemoryAtHand::find_below(root(files).path())?;
        Some((memory.bytes, memory.source))
    }

    #[test]
    fn without_groups_it_is_what_the_machine_has() {
        let machine = Some((16 * MIB, Source::Machine));
        let files = [("proc/meminfo", MEMINFO), ("proc/self/limits", UNLIMITED)];
        assert_eq!(found(&files), machine);
        assert_eq!(found(&files[..1]), machine);
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[("proc/meminfo", "MemTotal: many kB\n")]), None);
    }

    #[test]
    fn the_address_space_may_be_less() {
        let limited = UNLIMITED.replacen("unlimited", "4194304  ", 1);
        let files = [("proc/meminfo", MEMINFO), ("proc/self/limits", &limited)];
        assert_eq!(found(&files), Some((4 * MIB, Source::AddressSpace)));
    }

    const V2: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn version_2_counts_its_group_and_all_above() {
        let group = ("proc/self/cgroup", "0::/system.slice/tracker.service\n");
        let own = "sys/fs/cgroup/system.slice/tracker.service/memory.max";
        let above = "sys/fs/cgroup/system.slice/memory.max";
        for (own_max, above_max, bytes) in [
            ("8388608\n", "max\n", 8 * MIB),
            ("max\n", "4194304\n", 4 * MIB),
            ("2097152\n", "4194304\n", 2 * MIB),
        ] {
            let files = [
                ("proc/meminfo", MEMINFO),
                group,
                ("proc/self/mountinfo", V2),
                (own, own_max),
                (above, above_max),
                ("sys/fs/cgroup/other.slice/memory.max", "4096\n"),
            ];
            assert_eq!(found(&files), Some((bytes, Source::Cgroup)));
        }
        let files = [
            ("proc/meminfo", MEMINFO),
            group,
            ("proc/self/mountinfo", V2),
            (own, "max\n"),
            (above, "67108864\n"),
        ];
        assert_eq!(found(&files), Some((16 * MIB, Source::Machine)));
    }

    #[test]
    fn a_container_sees_its_group_at_the_mount_point() {
        // With a namespace of its own, or as a part of the tree that the host has mounted for it.
        for (group, root) in [("/", "/"), ("/../../a", "/"), ("/docker/1", "/docker/1")] {
            let groups = format!("0::{group}\n");
            let mounts = V2.replacen(" / ", &format!(" {root} "), 1);
            let files = [
                ("proc/meminfo", MEMINFO),
                ("proc/self/cgroup", &*groups),
                ("proc/self/mountinfo", &mounts),
                ("sys/fs/cgroup/memory.max", "1048576\n"),
            ];
            assert_eq!(found(&files), Some((MIB, Source::Cgroup)), "{group}");
        }
    }

    #[test]
    fn version_1_has_a_tree_for_memory() {
        let groups = "5:devices:/d\n4:cpu,memory:/box/1\n1:name=systemd:/\n0::/\n";
        let mounts = "34 31 0:34 / /cg\\040s/cpu rw - cgroup cgroup rw,cpuset\n\
                      35 31 0:35 / /cg\\040s/memory rw,relatime - cgroup cgroup rw,cpu,memory\n";
        for (limit, found_here) in [
            ("3145728\n", (3 * MIB, Source::Cgroup)),
            ("9223372036854771712\n", (16 * MIB, Source::Machine)),
        ] {
            let files = [
                ("proc/meminfo", MEMINFO),
                ("proc/self/cgroup", groups),
                ("proc/self/mountinfo", mounts),
                ("cg s/memory/box/1/memory.limit_in_bytes", limit),
                ("cg s/cpu/memory.limit_in_bytes", "4096\n"),
            ];
            assert_eq!(found(&files), Some(found_here));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_some() {
        let memory = MemoryAtHand::find().unwrap();
        assert!(memory.bytes > MIB, "{memory}");
    }
}
