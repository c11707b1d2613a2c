//! Child processes that cannot outlive the test binary.
//!
//! Every child is started through `setpriv --pdeathsig KILL`: the kernel ends it when the thread that started it is
//! gone. That is the trap as well: a test's own thread ends with the test, so one thread that lives as long as the
//! binary starts all of them. Signals go through a pidfd, so they never hit a stranger with a recycled pid.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::{oneshot, watch};

type Started = io::Result<std::process::Child>;

static STARTER: LazyLock<mpsc::Sender<(Command, oneshot::Sender<Started>)>> = LazyLock::new(|| {
    let (sender, jobs) = mpsc::channel::<(Command, oneshot::Sender<Started>)>();
    std::thread::Builder::new()
        .name("process-starter".into())
        .spawn(move || {
            for (mut command, reply) in jobs {
                // Whoever asked may have changed its mind (a pod deleted while it starts): nobody else would end it.
                if let Err(Ok(mut unwanted)) = reply.send(command.spawn()) {
                    unwanted.kill().and_then(|()| unwanted.wait()).expect("end a child of our own");
                }
            }
        })
        .expect("start a thread");
    sender
});

/// A running child process. Dropping it kills it and waits until it is gone.
pub struct Process {
    name: String,
    log: PathBuf,
    pidfd: OwnedFd,
    pid: u32,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts `program` with `arguments` in a process group of its own; its output goes to `log`.
    pub async fn start(
        name: &str,
        program: &Path,
        arguments: &[String],
        env: &[(String, String)],
        log: &Path,
    ) -> io::Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(env.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let (reply, answer) = oneshot::channel();
        STARTER.send((command, reply)).map_err(io::Error::other)?;
        let mut child = answer.await.map_err(io::Error::other)??;
        let pid = child.id();
        let pidfd = pidfd_open(rustix::process::Pid::from_child(&child), PidfdFlags::empty())?;
        let (gone, exit) = watch::channel(None);
        std::thread::Builder::new().name(format!("wait-{name}")).spawn(move || {
            if let Ok(status) = child.wait() {
                gone.send_replace(Some(status));
            }
        })?;
        Ok(Self { name: name.to_owned(), log: log.to_owned(), pidfd, pid, exit })
    }

    /// The process id, for `/proc`.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it has.
    pub fn exited(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// A handle that can be awaited without borrowing the process.
    pub fn exit_watch(&self) -> watch::Receiver<Option<ExitStatus>> {
        self.exit.clone()
    }

    /// Sends a signal; a process that is gone already is no error.
    pub fn signal(&self, signal: Signal) {
        if self.exited().is_none()
            && let Err(error) = pidfd_send_signal(&self.pidfd, signal)
            && error != rustix::io::Errno::SRCH
        {
            panic!("cannot signal {}: {error}", self.name);
        }
    }

    /// Asks it to end (SIGTERM), and kills it if it has not after `grace`. Says whether it ended by itself.
    pub async fn stop(&self, grace: Duration) -> bool {
        self.signal(Signal::TERM);
        let mut exit = self.exit.clone();
        let by_itself = tokio::time::timeout(grace, exit.wait_for(Option::is_some)).await.is_ok();
        self.signal(Signal::KILL);
        // An error means that the waiting thread is gone, and with it the process.
        let _ = exit.wait_for(Option::is_some).await;
        by_itself
    }

    /// The last lines it printed.
    pub fn tail(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        // Drop cannot await; a killed process is gone within milliseconds.
        while self.exited().is_none() && self.exit.has_changed().is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
