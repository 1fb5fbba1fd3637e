//! External programs: one enum of names, found and run in one place; parsers are elsewhere.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::process::Command;

/// A program that the builder starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Signs EFI programs for Secure Boot.
    Sbsign,
    /// Turns raw disk images into other formats.
    QemuImg,
    /// Makes ext4 file systems.
    Mke2fs,
    /// Makes folders in ext4 file systems without mounting them.
    Debugfs,
}

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is nowhere to be found.
    #[error("{program} is not installed: install the package {package} (apt-get install {package})")]
    Missing {
        /// The program's name.
        program: &'static str,
        /// Debian's package that has it.
        package: &'static str,
    },
    /// It could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program's name.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{program} failed ({status}): {message}")]
    Failed {
        /// The program's name.
        program: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote last to its standard error.
        message: String,
    },
}

/// Where administrators' programs are, which is not on everybody's `PATH`.
const MORE_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

impl Tool {
    /// All programs there are.
    pub const ALL: [Self; 4] = [Self::Sbsign, Self::QemuImg, Self::Mke2fs, Self::Debugfs];

    /// The program's name.
    pub fn program(self) -> &'static str {
        match self {
            Self::Sbsign => "sbsign",
            Self::QemuImg => "qemu-img",
            Self::Mke2fs => "mke2fs",
            Self::Debugfs => "debugfs",
        }
    }

    /// Debian's package that has it.
    pub fn package(self) -> &'static str {
        match self {
            Self::Sbsign => "sbsigntool",
            Self::QemuImg => "qemu-utils",
            Self::Mke2fs | Self::Debugfs => "e2fsprogs",
        }
    }

    /// Where the program is.
    pub fn find(self) -> Result<PathBuf, ToolError> {
        self.find_in(&std::env::var_os("PATH").unwrap_or_default())
    }

    /// Runs the program to its end, in the C locale, and returns what it wrote to its standard output.
    pub fn run<A: AsRef<OsStr>>(
        self,
        arguments: impl IntoIterator<Item = A>,
        environment: &[(&str, &str)],
    ) -> Result<String, ToolError> {
        let program = self.program();
        let output = Command::new(self.find()?)
            .args(arguments)
            .env("LC_ALL", "C")
            .envs(environment.iter().copied())
            .stdin(std::process::Stdio::null())
            .output()
            .map_err(|source| ToolError::Start { program, source })?;
        if !output.status.success() {
            let message = last_line(&String::from_utf8_lossy(&output.stderr));
            return Err(ToolError::Failed { program, status: output.status, message });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn find_in(self, path: &OsStr) -> Result<PathBuf, ToolError> {
        let folders = std::env::split_paths(path).chain(MORE_FOLDERS.map(PathBuf::from));
        let mut programs = folders.map(|folder| folder.join(self.program()));
        let missing = ToolError::Missing { program: self.program(), package: self.package() };
        programs.find(|program| program.is_file()).ok_or(missing)
    }
}

fn last_line(text: &str) -> String {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_is_named_with_its_package() {
        for tool in Tool::ALL {
            let error = ToolError::Missing { program: tool.program(), package: tool.package() };
            let text = error.to_string();
            assert!(text.contains(tool.program()) && text.contains(tool.package()), "{text}");
        }
    }

    #[test]
    fn a_program_that_fails_says_why() {
        let error = Tool::QemuImg.run(["info", "/nonexistent/image"], &[]).unwrap_err().to_string();
        assert!(error.starts_with("qemu-img failed (exit status: 1): "), "{error}");
        assert!(error.contains("/nonexistent/image"), "{error}");
    }
}
