//! A load tester's program, as its user sees it.

use std::process::{Command, Output};

use serde_json::Value;

/// The program of a load tester.
#[derive(Clone, Copy, Debug)]
pub struct Tester {
    program: &'static str,
}

impl Tester {
    /// The program at this path.
    #[must_use]
    pub const fn new(program: &'static str) -> Self {
        Self { program }
    }

    /// Runs it to its end with a configuration.
    #[must_use]
    pub fn run(self, config: &str) -> Output {
        self.run_with(&[], config)
    }

    /// What it reports of a run without a warm-up.
    #[must_use]
    pub fn report(self, config: &str) -> Value {
        let output = self.run(&format!("print_json = true\nwarm_up_seconds = 0\n{config}"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The configuration that it prints is one that it accepts.
    pub fn accepts_what_it_prints(self) {
        let printed = Command::new(self.program).arg("-p").output().unwrap();
        let config = String::from_utf8(printed.stdout).unwrap();
        assert!(config.contains("server_address"), "{config}");
        let checked = self.run_with(&["--check-config"], &config);
        let errors = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{errors}");
    }

    fn run_with(self, arguments: &[&str], config: &str) -> Output {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config).unwrap();
        let mut command = Command::new(self.program);
        command.args(arguments).arg("-c").arg(file.path());
        command.output().unwrap()
    }
}

/// A number of the report.
#[must_use]
pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}
