//! Giving up the rights of root.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use aquatic_config::PrivilegeConfig;
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
pub fn drop(config: &PrivilegeConfig) -> anyhow::Result<()> {
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

fn find_user(name: &str) -> anyhow::Result<Uid> {
    match User::from_name(name).with_context(|| format!("cannot look up the user {name}"))? {
        Some(user) if user.uid.is_root() => {
            bail!("{name} is root: set privileges.user to a user without its rights")
        }
        Some(user) => Ok(user.uid),
        None => bail!("there is no user {name} (see privileges.user)"),
    }
}

fn find_group(name: &str) -> anyhow::Result<Gid> {
    match Group::from_name(name).with_context(|| format!("cannot look up the group {name}"))? {
        Some(group) => Ok(group.gid),
        None => bail!("there is no group {name} (see privileges.group)"),
    }
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
