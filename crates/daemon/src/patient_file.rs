//! Reading a file that may be a pipe.
//!
//! A pipe to which nobody writes would keep its reader waiting for ever, and with it every later
//! reload. So a pipe is read with a limit: on the time in which nothing comes.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::clock::Clock;

/// How long a pipe may give nothing.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A file, or a pipe that is given up when it gives nothing.
#[derive(Debug)]
pub struct PatientFile {
    file: File,
    silence_max: Duration,
}

impl PatientFile {
    /// Opens it. This does not wait for a writer.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path)?;
        Ok(Self {
            file,
            silence_max: SILENCE_MAX,
        })
    }

    /// The file itself.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Waits until there is something to read, or the end.
    fn wait(&self) -> io::Result<()> {
        let clock = Clock::start();
        loop {
            let left = self.silence_max.saturating_sub(clock.elapsed());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut polled = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, timeout) {
                Ok(0) if left.is_zero() => {
                    let reason = format!("nothing has come for {SILENCE_MAX:?}");
                    return Err(io::Error::new(ErrorKind::TimedOut, reason));
                }
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for PatientFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A pipe without a writer is read as if it had ended. Only waiting tells whether there has
        // been one.
        if self.file.metadata()?.file_type().is_fifo() {
            self.wait()?;
        }
        loop {
            match self.file.read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait()?,
                result => return result,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn read(path: &Path, silence_max: Duration) -> io::Result<String> {
        let mut file = PatientFile::open(path)?;
        file.silence_max = silence_max;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn files_and_pipes_are_read_to_their_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "content").unwrap();
        assert_eq!(read(&path, SILENCE_MAX).unwrap(), "content");
        let path = folder.path().join("pipe");
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let long = "x".repeat(1 << 20);
        thread::scope(|scope| {
            let reader = scope.spawn(|| read(&path, SILENCE_MAX).unwrap());
            let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
            writer.write_all(long.as_bytes()).unwrap();
            drop(writer);
            assert_eq!(reader.join().unwrap(), long);
        });
    }

    #[test]
    fn a_pipe_that_gives_nothing_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let error = read(&path, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
