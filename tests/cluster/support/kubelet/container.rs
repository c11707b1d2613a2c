//! Runs a pod's container as a process of this machine in a mount namespace and root of its own.
//!
//! The process sees what the pod spec says and nothing else: its volumes at their mount paths, the uid, gid and
//! `fsGroup` (where the tests run as root), a read-only root where the spec asks for one, no capabilities. What is not
//! as in a cluster: the machine's programs and libraries stand in for the image's, the network is the machine's (each
//! pod has an address of its own instead, which 0.0.0.0 and 127.0.0.1 in its environment and arguments stand for), and processes
//! are visible to each other.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, Pod, Secret};
use kube::{Api, Client, ResourceExt};

use super::volumes::Missing;
use crate::programs;
use crate::support::process::Process;

/// Folders of the machine that every container sees, read-only.
const SHARED: &[&str] = &["usr", "lib", "lib64", "bin", "sbin"];

/// A container about to start.
pub struct Start<'a> {
    /// Reads what the environment refers to.
    pub client: &'a Client,
    /// Namespace of the pod.
    pub namespace: &'a str,
    /// The pod.
    pub pod: &'a Pod,
    /// The container of it.
    pub container: &'a Container,
    /// Address of the pod.
    pub address: Ipv4Addr,
    /// Where each volume is.
    pub volumes: &'a BTreeMap<String, PathBuf>,
    /// The pod's `/etc/hosts`.
    pub hosts: &'a Path,
    /// A folder for the container's root and log.
    pub folder: &'a Path,
    /// Whether we are root.
    pub root: bool,
}

impl Start<'_> {
    /// Starts the process. An error is what the kubelet would wait for.
    pub async fn run(&self) -> Result<Process, Missing> {
        let env = self.environment().await?;
        let root = self.folder.join("root");
        let script = self.folder.join("start.sh");
        fs::create_dir_all(&root).expect("make a root folder");
        fs::write(&script, self.script(&root)).expect("write the start script");
        let mut arguments: Vec<String> = Vec::new();
        if !self.root {
            arguments.extend(["--user", "--map-root-user"].map(str::to_owned));
        }
        arguments.extend(["--mount", "--propagation", "private", "--", "sh"].map(str::to_owned));
        arguments.push(script.display().to_string());
        arguments.extend(self.command(&env)?);
        let log = self.folder.join("log");
        let unshare = Path::new("unshare");
        Process::start(&self.pod.name_any(), unshare, &arguments, &env, &log)
            .await
            .map_err(|e| format!("cannot start: {e}"))
    }

    fn command(&self, env: &[(String, String)]) -> Result<Vec<String>, Missing> {
        let words = self.container.command.iter().flatten().chain(self.container.args.iter().flatten());
        let words: Vec<_> = words.map(|word| self.local(&expand(word, env))).collect();
        if !words.is_empty() {
            return Ok(words);
        }
        let own = self.image().map(|image| image.command.iter().map(|word| (*word).to_owned()).collect());
        own.ok_or_else(|| {
            format!("image {:?} has no program here: the container needs a command", self.container.image)
        })
    }

    fn image(&self) -> Option<Image> {
        fabric_image(self.container.image.as_deref().unwrap_or_default())
    }

    /// Mounts, then changes root and rights, then becomes the container's command ("$@").
    fn script(&self, root: &Path) -> String {
        let at = |path: &str| root.join(path.trim_start_matches('/')).display().to_string();
        let mut script = format!("set -e\nmount --bind {0} {0}\n", root.display());
        for shared in SHARED {
            let host = Path::new("/").join(shared);
            match fs::read_link(&host) {
                Ok(target) => drop(symlink(target, root.join(shared))),
                Err(_) if host.is_dir() => {
                    writeln!(script, "mkdir -p {0}; mount --rbind {1} {0}", at(shared), host.display()).expect("text")
                }
                Err(_) => {}
            }
        }
        let programs = [programs::contract(), programs::devledger()];
        let programs = programs.iter().zip(["opt/ehrnet-contract", "opt/ehrnet-devledger"]);
        writeln!(script, "mkdir -p {0}/dev {0}/proc {0}/etc {0}/opt; mkdir -p -m 1777 {0}/tmp", root.display())
            .expect("text");
        writeln!(script, "mount --rbind /dev {}; mount --rbind /proc {}", at("dev"), at("proc")).expect("text");
        for (file, target) in programs.map(|(file, to)| (file.as_path(), to)).chain([(self.hosts, "etc/hosts")]) {
            writeln!(script, "touch {0}; mount --bind {1} {0}", at(target), file.display()).expect("text");
        }
        if let Some(image) = self.image() {
            for (source, target) in image.files {
                let make = if source.is_dir() { "mkdir -p" } else { "touch" };
                writeln!(
                    script,
                    "mkdir -p $(dirname {0}); {make} {0}; mount --bind {1} {0}",
                    at(&target),
                    source.display()
                )
                .expect("text");
            }
        }
        let mut mounts: Vec<_> = self.container.volume_mounts.iter().flatten().collect();
        mounts.sort_by_key(|mount| mount.mount_path.len());
        for mount in mounts {
            let volume =
                self.volumes.get(&mount.name).unwrap_or_else(|| panic!("the pod has no volume {}", mount.name));
            let source = volume.join(mount.sub_path.as_deref().unwrap_or_default());
            let target = at(&mount.mount_path);
            let make = if source.is_file() {
                format!("mkdir -p $(dirname {target}); touch {target}")
            } else {
                format!("mkdir -p {target}")
            };
            writeln!(script, "{make}; mount --bind {} {target}", source.display()).expect("text");
            if mount.read_only == Some(true) {
                writeln!(script, "mount -o remount,bind,ro {target}").expect("text");
            }
        }
        let security = self.container.security_context.as_ref();
        if security.and_then(|s| s.read_only_root_filesystem) == Some(true) {
            writeln!(script, "mount -o remount,bind,ro {}", root.display()).expect("text");
        }
        // The container's PATH need not lead to the administrator's programs.
        writeln!(script, "chroot=$(PATH=/usr/sbin:/usr/bin:/sbin:/bin command -v chroot)").expect("text");
        writeln!(script, "exec $chroot {} setpriv {} -- \"$@\"", root.display(), self.rights().join(" "))
            .expect("text");
        script
    }

    fn rights(&self) -> Vec<String> {
        // A change of user takes the death signal away, so it is set again.
        let mut rights = vec!["--pdeathsig KILL".to_owned(), "--no-new-privs".to_owned()];
        let pod = self.pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
        let own = self.container.security_context.as_ref();
        let user = own.and_then(|c| c.run_as_user).or(pod.and_then(|p| p.run_as_user));
        let group = own.and_then(|c| c.run_as_group).or(pod.and_then(|p| p.run_as_group));
        if !self.root {
            return rights;
        }
        let user = user.expect("a pod under `restricted` that runs on an image whose user is unknown names its user");
        rights.push(format!("--reuid {user} --regid {} --inh-caps=-all --bounding-set=-all", group.unwrap_or(0)));
        match pod.and_then(|p| p.fs_group) {
            Some(extra) => rights.push(format!("--groups {extra}")),
            None => rights.push("--clear-groups".to_owned()),
        }
        rights
    }

    async fn environment(&self) -> Result<Vec<(String, String)>, Missing> {
        let mut env = vec![
            ("PATH".to_owned(), "/opt:/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("HOSTNAME".to_owned(), self.pod.name_any()),
            ("EHRNET_DEVLEDGER_HOSTS".to_owned(), "/etc/hosts".to_owned()),
        ];
        if self.image().is_some() {
            env.push(("FABRIC_CFG_PATH".to_owned(), "/etc/hyperledger/fabric".to_owned()));
        }
        assert!(self.container.env_from.is_none(), "envFrom is not expected");
        for variable in self.container.env.iter().flatten() {
            let value = match &variable.value_from {
                Some(_) => self.referred(variable).await?,
                None => expand(variable.value.as_deref().unwrap_or_default(), &env),
            };
            env.push((variable.name.clone(), self.local(&value)));
        }
        Ok(env)
    }

    async fn referred(&self, variable: &EnvVar) -> Result<String, Missing> {
        let source = variable.value_from.as_ref().expect("asked for one");
        if let Some(field) = &source.field_ref {
            return Ok(match field.field_path.as_str() {
                "metadata.name" => self.pod.name_any(),
                "metadata.namespace" => self.namespace.to_owned(),
                "metadata.uid" => self.pod.uid().unwrap_or_default(),
                "status.podIP" => self.address.to_string(),
                other => panic!("{}: field {other} is not expected", variable.name),
            });
        }
        let missing = |what: &str, name: &str, key: &str| format!("{}: no key {key} in {what} {name:?}", variable.name);
        if let Some(of) = &source.secret_key_ref {
            let secret = Api::<Secret>::namespaced(self.client.clone(), self.namespace)
                .get_opt(&of.name)
                .await
                .expect("read a Secret");
            let value =
                secret.and_then(|s| s.data?.remove(&of.key)).ok_or_else(|| missing("secret", &of.name, &of.key))?;
            return String::from_utf8(value.0).map_err(|e| e.to_string());
        }
        if let Some(of) = &source.config_map_key_ref {
            let map = Api::<ConfigMap>::namespaced(self.client.clone(), self.namespace)
                .get_opt(&of.name)
                .await
                .expect("read a ConfigMap");
            return map.and_then(|m| m.data?.remove(&of.key)).ok_or_else(|| missing("configmap", &of.name, &of.key));
        }
        panic!("{}: a source that is not expected", variable.name);
    }

    /// All pods share the machine's network, so each listens on its own address only, and that is its loopback too.
    fn local(&self, value: &str) -> String {
        let address = self.address.to_string();
        value.replace("0.0.0.0", &address).replace("127.0.0.1", &address)
    }
}

/// `$(NAME)` is the value of a variable defined before (Kubernetes' rule); unknown ones stay as they are.
fn expand(text: &str, env: &[(String, String)]) -> String {
    env.iter().rev().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("$({name})"), value))
}

/// What an image of Fabric holds that a container needs.
struct Image {
    command: &'static [&'static str],
    files: Vec<(PathBuf, String)>,
}

/// The published images, put together from `EHRNET_FABRIC_BIN`, a folder laid out as Fabric's release archive.
fn fabric_image(reference: &str) -> Option<Image> {
    let folder = crate::support::ledger::fabric()?;
    let command: &[&str] = if reference.contains("hyperledger/fabric-orderer") {
        &["orderer"]
    } else if reference.contains("hyperledger/fabric-peer") {
        &["peer", "node", "start"]
    } else {
        return None;
    };
    let files = vec![
        (folder.join("bin").join(command[0]), format!("/opt/{}", command[0])),
        (folder.join("config"), "/etc/hyperledger/fabric".to_owned()),
        (folder.join("builders/ccaas"), "/opt/hyperledger/ccaas_builder".to_owned()),
    ];
    Some(Image { command, files })
}
