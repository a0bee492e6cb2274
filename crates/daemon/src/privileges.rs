//! Giving up the rights of root.

use std::path::Path;

use anyhow::{Context, ensure};
use aquatic_config::{Checks, PrivilegeConfig};
use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, chdir, chroot, geteuid, setgid, setuid};

/// Changes root directory, group and user, if the configuration says so.
///
/// To be called once, when every socket is bound and before workers are started: it concerns the
/// whole process. Afterwards paths are looked up inside the new root directory.
///
/// # Errors
/// If any of it fails, or if root could be had back. The process must not go on then: it may have
/// given up a part only.
pub fn drop_privileges(config: &PrivilegeConfig) -> anyhow::Result<()> {
    if !config.drop_privileges {
        return Ok(());
    }
    ensure!(
        geteuid().is_root(),
        "cannot drop privileges: not started as root (see privileges.drop_privileges)"
    );
    // Names are looked up in files that are out of reach afterwards.
    let user = find_user(&config.user)?;
    let group = find_group(&config.group)?;

    enter_root_directory(&config.chroot_path)?;
    drop_supplementary_groups().context("cannot drop supplementary groups")?;
    setgid(group).with_context(|| format!("cannot change to the group {}", config.group))?;
    setuid(user).with_context(|| format!("cannot change to the user {}", config.user))?;
    ensure!(
        setuid(Uid::from_raw(0)) == Err(Errno::EPERM),
        "privileges were dropped, but root could be had back"
    );

    log::info!(
        "runs as {}:{} in {}",
        config.user,
        config.group,
        config.chroot_path.display()
    );
    Ok(())
}

/// User and group that the daemon will have, if they are others than now.
///
/// # Errors
/// If there is no such user or group.
pub fn owner(config: &PrivilegeConfig) -> anyhow::Result<Option<(u32, u32)>> {
    if !config.drop_privileges {
        return Ok(None);
    }
    let (user, group) = (find_user(&config.user)?, find_group(&config.group)?);
    Ok(Some((user.as_raw(), group.as_raw())))
}

/// Advises against settings that are hardly meant.
pub fn advise(config: &PrivilegeConfig, checks: &mut Checks) {
    let default = PrivilegeConfig::default();
    for (is_default, key) in [
        (config.user == default.user, "privileges.user"),
        (config.group == default.group, "privileges.group"),
        (
            config.chroot_path == default.chroot_path,
            "privileges.chroot_path",
        ),
    ] {
        checks.advise(
            is_default || config.drop_privileges,
            key,
            "is not used, because `privileges.drop_privileges` is false",
        );
    }
}

/// Whether the process has the rights of root.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Does what [`drop`](fn@drop) would do, as far as this user may, and reports each reason for which
/// that would fail. `files` are what the daemon opens afterwards.
///
/// Returns whether this process now sees these files as the daemon will. It may have lost the
/// rights of root then, and has to end. Otherwise `checks` have been told what was not looked at.
pub fn check(config: &PrivilegeConfig, files: &[&str], checks: &mut Checks) -> bool {
    if !config.drop_privileges {
        return true;
    }
    let user = checks.require_ok(find_user(&config.user), "privileges.user");
    let group = checks.require_ok(find_group(&config.group), "privileges.group");
    let root = checks.require_ok(check_root_directory(config), "privileges.chroot_path");
    let would_work = user.is_some() && group.is_some() && root.is_some();
    if would_work && is_root() {
        let dropped = checks.require_ok(drop_privileges(config), "privileges.drop_privileges");
        return dropped.is_some();
    }
    let mut what = files.join(", ");
    if !what.is_empty() {
        what += ": ";
    }
    checks.not_looked_at(format!(
        "{what}what is opened as the user {} inside {}; to see it, {}",
        config.user,
        config.chroot_path.display(),
        match would_work {
            true => "run this check as root",
            false => "mend the section [privileges] first",
        }
    ));
    false
}

fn check_root_directory(config: &PrivilegeConfig) -> anyhow::Result<()> {
    let path = &config.chroot_path;
    let metadata = std::fs::metadata(path)
        .with_context(|| format!("cannot look at the folder {}", path.display()))?;
    ensure!(metadata.is_dir(), "{} is not a folder", path.display());
    Ok(())
}

fn find_user(name: &str) -> anyhow::Result<Uid> {
    let found = User::from_name(name).with_context(|| format!("cannot look up the user {name}"))?;
    let user = found.with_context(|| missing("user", name))?;
    ensure!(
        !user.uid.is_root(),
        "{name} is root: set privileges.user to a user without its rights"
    );
    Ok(user.uid)
}

fn find_group(name: &str) -> anyhow::Result<Gid> {
    let found =
        Group::from_name(name).with_context(|| format!("cannot look up the group {name}"))?;
    let group = found.with_context(|| missing("group", name))?;
    Ok(group.gid)
}

/// There is no such user or group.
fn missing(kind: &str, name: &str) -> String {
    let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    let hint = match is_number {
        true => ": write its name, not its number",
        false => "",
    };
    format!("there is no {kind} {name} (see privileges.{kind}){hint}")
}

fn enter_root_directory(path: &Path) -> anyhow::Result<()> {
    chroot(path)
        .with_context(|| format!("cannot change the root directory to {}", path.display()))?;
    // A working directory outside would be a way out.
    chdir("/").context("cannot enter the new root directory")
}

/// Those that root has come with.
#[cfg(not(target_vendor = "apple"))]
fn drop_supplementary_groups() -> nix::Result<()> {
    nix::unistd::setgroups(&[])
}

#[cfg(target_vendor = "apple")]
fn drop_supplementary_groups() -> nix::Result<()> {
    Err(Errno::ENOTSUP)
}
