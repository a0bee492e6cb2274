//! What a process has used, from `/proc` (Linux).

use std::fs;

use anyhow::{Context, bail};

/// The unit of CPU times in `/proc/PID/stat`. The kernel computes them in nanoseconds and shows
/// them in the ticks of its interface (`USER_HZ`): 100 per second, whatever its own clock does.
const TICK_MICROS: u64 = 10_000;

/// What a process has used so far, all threads together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in its own code, in microseconds.
    pub user_micros: u64,
    /// CPU time in the kernel on its behalf, in microseconds.
    pub system_micros: u64,
    /// Memory that it occupies at the moment, in bytes.
    pub resident_bytes: u64,
}

impl Usage {
    /// Of another process.
    ///
    /// # Errors
    /// If there is no such process, or no `/proc`.
    pub fn of_process(pid: u32) -> anyhow::Result<Self> {
        Self::read(&pid.to_string())
            .with_context(|| format!("cannot observe process {pid} (tracker_pid)"))
    }

    /// Of this process.
    ///
    /// # Errors
    /// If there is no `/proc`.
    pub fn of_self() -> anyhow::Result<Self> {
        Self::read("self")
    }

    /// CPU time in all, in microseconds.
    #[must_use]
    pub fn cpu_micros(&self) -> u64 {
        self.user_micros + self.system_micros
    }

    /// CPU times since an earlier look, and the memory of now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            user_micros: self.user_micros.saturating_sub(earlier.user_micros),
            system_micros: self.system_micros.saturating_sub(earlier.system_micros),
            resident_bytes: self.resident_bytes,
        }
    }

    fn read(process: &str) -> anyhow::Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{process}/{file}");
            fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        let (user_micros, system_micros) = cpu_micros(&read("stat")?)?;
        Ok(Self {
            user_micros,
            system_micros,
            resident_bytes: resident_bytes(&read("status")?)?,
        })
    }
}

/// proc_pid_stat(5): field 2 is the name in parentheses, which may hold anything; 14 and 15 are the
/// CPU times.
fn cpu_micros(stat: &str) -> anyhow::Result<(u64, u64)> {
    let after_name = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let mut ticks = after_name.split(' ').skip(14 - 3).map(str::parse::<u64>);
    let (Some(Ok(user)), Some(Ok(system))) = (ticks.next(), ticks.next()) else {
        bail!("its stat file has no CPU times: {stat:?}");
    };
    Ok((user * TICK_MICROS, system * TICK_MICROS))
}

/// proc_pid_status(5): `VmRSS:   123 kB`, exact unlike that of the stat file.
fn resident_bytes(status: &str) -> anyhow::Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let kib = kib.context("its status file has no VmRSS: the process has ended")?;
    Ok(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 30 13 14";
        assert_eq!(cpu_micros(stat).unwrap(), (2_500_000, 300_000));
        assert!(cpu_micros("7 (a) S 1 2").is_err());
        assert_eq!(
            resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n").unwrap(),
            2 << 20
        );
        assert!(resident_bytes("Name:\tx\nState:\tZ (zombie)\n").is_err());
    }

    #[test]
    fn work_and_memory_show() {
        let before = Usage::of_self().unwrap();
        let memory: Vec<u64> = (0..8 << 20).collect();
        let mut sum = 0u64;
        loop {
            sum = memory
                .iter()
                .fold(sum, |sum, value| sum.wrapping_mul(31) ^ value);
            let used = Usage::of_self().unwrap().since(&before);
            if used.user_micros >= 20_000 {
                assert!(used.resident_bytes >= before.resident_bytes + (48 << 20));
                break;
            }
        }
        assert_ne!(sum, 0);
    }

    #[test]
    fn an_absent_process_is_named() {
        // Linux gives no process this number (its limit is 2^22).
        let error = Usage::of_process(1 << 23).unwrap_err();
        assert!(
            format!("{error:#}").contains("process 8388608"),
            "{error:#}"
        );
    }
}
