//! Runs the programs that the demo stands on (helm, kind, docker, the cluster script), with errors that name them.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use tokio::process::Command;

/// Why a program did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It could not be started.
    #[error("cannot run {program}: {source}")]
    Start {
        /// The program's name or path.
        program: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It ended with an error.
    #[error("{command} failed ({status}){}", indented(stderr))]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote to standard error, unless that went to the terminal.
        stderr: String,
    },
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("\n  {line}")).collect()
}

/// A command line of `program` with `args`.
pub(super) fn command<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs it to its end and returns what it wrote to standard output, trimmed. Its errors are part of the error.
pub(super) async fn output(mut command: Command) -> Result<String, ProgramError> {
    finish(&mut command, Stdio::piped()).await
}

/// Like [`output`], with its standard error (its progress) on ours.
pub(super) async fn output_with_progress(mut command: Command) -> Result<String, ProgramError> {
    finish(&mut command, Stdio::inherit()).await
}

/// Whether it can be run and succeeds.
pub(super) async fn succeeds(command: Command) -> bool {
    output(command).await.is_ok()
}

/// The first file named `program` on the search path.
pub(super) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

async fn finish(command: &mut Command, stderr: Stdio) -> Result<String, ProgramError> {
    let child = command.stdout(Stdio::piped()).stderr(stderr).spawn();
    let start = |source| ProgramError::Start { program: command_line(command), source };
    let Output { status, stdout, stderr } = child.map_err(start)?.wait_with_output().await.map_err(start)?;
    if !status.success() {
        let stderr = String::from_utf8_lossy(&stderr).trim().to_owned();
        return Err(ProgramError::Failed { command: command_line(command), status, stderr });
    }
    Ok(String::from_utf8_lossy(&stdout).trim().to_owned())
}

fn command_line(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failing_program_is_quoted_with_what_it_said() {
        let error = output(command("sh", ["-c", "echo no disk >&2; exit 3"])).await.unwrap_err();
        assert_eq!(error.to_string(), "sh -c echo no disk >&2; exit 3 failed (exit status: 3)\n  no disk");
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = output(command("no-such-program", ["--version"])).await.unwrap_err();
        assert!(matches!(&error, ProgramError::Start { .. }), "{error}");
        assert!(error.to_string().starts_with("cannot run no-such-program --version: "), "{error}");
    }

    #[tokio::test]
    async fn output_is_trimmed_standard_output() {
        assert_eq!(output(command("printf", ["  a b\n"])).await.unwrap(), "a b");
    }
}
