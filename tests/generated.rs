//! What is made from something else is as its source says: the resource definitions and the rendered manifests. And what
//! the chart renders keeps its promises.
//!
//! `EHRNET_REGENERATE=1 cargo test --test generated` writes the files instead of comparing them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};
use serde::Deserialize;
use serde_json::{Value, json};

const HOW: &str = "regenerate with: EHRNET_REGENERATE=1 cargo test --test generated";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A test.
type Check = fn() -> Result<(), Failed>;
/// A test that renders the chart with this helm.
type ChartCheck = fn(&Path) -> Result<(), Failed>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let helm = if arguments.list { Err(String::new()) } else { helm() };
    let without: [(&str, Check); 2] = [
        ("the_definitions_are_those_of_the_binary", definitions),
        ("the_command_line_prints_the_definitions", printed),
    ];
    let with: [(&str, ChartCheck); 5] = [
        ("the_kustomize_base_is_the_rendered_chart", kustomize),
        ("the_chart_asks_for_no_right_beyond_the_watched_namespaces", narrow_rights),
        ("the_chart_asks_for_cluster_wide_rights_only_when_told_to", wide_rights),
        ("the_chart_starts_the_embedded_ledger_only_when_told_to", embedded_ledger),
        ("the_chart_refuses_values_that_make_no_sense", refused_values),
    ];
    let mut trials: Vec<_> = without.into_iter().map(|(name, test)| Trial::test(name, test)).collect();
    for (name, test) in with {
        let found = helm.clone();
        trials.push(Trial::test(name, move || test(&found?)).with_ignored_flag(helm.is_err()));
    }
    if let (Err(reason), false) = (&helm, arguments.list) {
        eprintln!("Charts are not rendered here: {reason}");
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            return ExitCode::FAILURE;
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// `helm` of the search path, or else one that the local cluster's script builds.
fn helm() -> Result<PathBuf, String> {
    let runs = |program: &Path| {
        Command::new(program)
            .arg("version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    };
    if runs(Path::new("helm")) {
        return Ok("helm".into());
    }
    let script = root().join("deploy/local/cluster");
    let built = Command::new(&script).args(["tools", "helm"]).stderr(Stdio::inherit()).output();
    let built = built.map_err(|error| format!("helm is not on the search path, and {}: {error}", script.display()))?;
    let path = PathBuf::from(String::from_utf8_lossy(&built.stdout).trim());
    if built.status.success() && runs(&path) {
        Ok(path)
    } else {
        Err("helm is not on the search path and was not built".into())
    }
}

/// The files that are made from something else, by path from the root of the project.
type Files = BTreeMap<String, String>;

fn definition_files() -> Result<Files, Failed> {
    let mut files = Files::new();
    let mut listed = String::new();
    for crd in ehrnet_api::crds() {
        let name = format!("{}.yaml", crd.spec.names.plural);
        let text = format!("# Printed by `ehrnet crds`.\n{}", serde_yaml::to_string(&crd)?);
        listed.push_str(&format!("  - {name}\n"));
        files.insert(format!("crds/{name}"), text);
    }
    let kustomization = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n";
    files.insert("crds/kustomization.yaml".into(), format!("{kustomization}{listed}"));
    Ok(files)
}

/// Compares the files, or writes them where that is asked for. `folders` hold nothing else.
fn compare(files: &Files, folders: &[&str]) -> Result<(), Failed> {
    let mut wrong = Vec::new();
    for folder in folders {
        for entry in root().join(folder).read_dir().into_iter().flatten() {
            let path = format!("{folder}/{}", entry?.file_name().to_string_lossy());
            if !files.contains_key(&path) {
                wrong.push(format!("{path} is made from nothing any more; delete it"));
            }
        }
    }
    for (path, text) in files {
        let target = root().join(path);
        if std::env::var_os("EHRNET_REGENERATE").is_some() {
            std::fs::create_dir_all(target.parent().unwrap_or(root()))?;
            std::fs::write(&target, text)?;
        } else if std::fs::read_to_string(&target).ok().as_deref() != Some(text) {
            wrong.push(format!("{path} is not what its source says"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{}\n{HOW}", wrong.join("\n")).into()) }
}

fn definitions() -> Result<(), Failed> {
    compare(&definition_files()?, &["crds"])?;
    let linked = root().join("charts/ehrnet/files/crds").canonicalize()? == root().join("crds").canonicalize()?;
    linked
        .then_some(())
        .ok_or_else(|| "charts/ehrnet/files/crds does not lead to crds/: the chart has other files".into())
}

fn printed() -> Result<(), Failed> {
    let output = Command::new(env!("CARGO_BIN_EXE_ehrnet")).arg("crds").output()?;
    let objects = objects(&String::from_utf8(output.stdout)?)?;
    let expected: Vec<Value> = ehrnet_api::crds().iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
    if objects == expected { Ok(()) } else { Err("`ehrnet crds` prints something else than the definitions".into()) }
}

fn objects(text: &str) -> Result<Vec<Value>, Failed> {
    let parsed = serde_yaml::Deserializer::from_str(text).map(Value::deserialize).collect::<Result<Vec<_>, _>>()?;
    Ok(parsed.into_iter().filter(|object| !object.is_null()).collect())
}

/// Renders the chart. The oldest Kubernetes that it is for stands in for a cluster.
fn template(helm: &Path, values: &[&str]) -> Result<String, Failed> {
    let mut command = Command::new(helm);
    command.args(["template", "ehrnet", "charts/ehrnet", "--namespace", "ehrnet-system", "--kube-version", "1.33.0"]);
    for value in values {
        command.args(["--set", value]);
    }
    let output = command.current_dir(root()).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn kustomize(helm: &Path) -> Result<(), Failed> {
    let rendered = template(helm, &["crds.install=false"])?;
    let lines = rendered.lines().filter(|line| !line.contains("helm.sh/") && !line.starts_with("# Source:"));
    let lines = lines.map(|line| line.replace("managed-by: Helm", "managed-by: kustomize"));
    let text = lines.fold(format!("# Rendered from charts/ehrnet; {HOW}\n"), |text, line| text + &line + "\n");
    compare(&Files::from([("deploy/kustomize/operator.yaml".into(), text)]), &[])
}

fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(otherwise().into()) }
}

fn narrow_rights(helm: &Path) -> Result<(), Failed> {
    let objects = objects(&template(helm, &["watchNamespaces={mercy,charite}", "replicas=2"])?)?;
    // A namespace takes its Role along when it is deleted, and finalizers must still be removed: that, and no more.
    let cluster_wide: Vec<_> = of_kind(&objects, "ClusterRole").map(|role| role["rules"].clone()).collect();
    let finalizers = json!([{"apiGroups": ["ehrnet.dev"], "resources": ["orderers"], "verbs": ["patch"]}]);
    ensure(cluster_wide == [finalizers], || format!("rights in the whole cluster: {cluster_wide:?}"))?;
    let namespaces: BTreeSet<_> =
        of_kind(&objects, "Role").filter_map(|role| role["metadata"]["namespace"].as_str()).collect();
    ensure(namespaces == BTreeSet::from(["charite", "ehrnet-system", "mercy"]), || format!("Roles in {namespaces:?}"))?;
    for role in of_kind(&objects, "Role") {
        ensure(!role.to_string().contains('*'), || format!("a wildcard in {role}"))?;
        let own = role["metadata"]["namespace"] == "ehrnet-system";
        ensure(!own || !role.to_string().contains("secrets"), || "Secrets of the operator's own namespace".into())?;
    }
    Ok(())
}

fn wide_rights(helm: &Path) -> Result<(), Failed> {
    let narrow = objects(&template(helm, &["watchNamespaces={mercy}"])?)?;
    let wide = objects(&template(helm, &["watchAllNamespaces=true"])?)?;
    let rules = |objects: &[Value], kind: &str| {
        of_kind(objects, kind).find(|o| o["metadata"]["name"] == "ehrnet").map(|o| o["rules"].clone())
    };
    ensure(rules(&wide, "ClusterRole").is_some(), || "no ClusterRole".into())?;
    ensure(rules(&wide, "ClusterRole") == rules(&narrow, "Role"), || "the rules differ".into())
}

/// The value of an environment variable of the operator.
fn variable(objects: &[Value], name: &str) -> Option<String> {
    let containers =
        of_kind(objects, "Deployment").next()?["spec"]["template"]["spec"]["containers"].as_array()?.clone();
    let variables = containers.first()?["env"].as_array()?.clone();
    variables.iter().find(|variable| variable["name"] == name)?["value"].as_str().map(str::to_owned)
}

fn embedded_ledger(helm: &Path) -> Result<(), Failed> {
    let text = template(helm, &[])?;
    ensure(!text.contains("devledger"), || "the embedded ledger by default".into())?;
    let peer = variable(&objects(&text)?, "EHRNET_PEER_IMAGE").unwrap_or_default();
    ensure(peer.contains("hyperledger/fabric-peer"), || format!("peers run {peer} by default"))?;
    let embedded = objects(&template(helm, &["ledger.embedded=true", "image.repository=r", "image.tag=t"])?)?;
    for node in ["ORDERER", "PEER"] {
        let image = variable(&embedded, &format!("EHRNET_{node}_IMAGE"));
        ensure(image.as_deref() == Some("r-devledger:t"), || format!("{node} runs {image:?}"))?;
        let command = variable(&embedded, &format!("EHRNET_{node}_COMMAND")).unwrap_or_default();
        ensure(command.contains("devledger"), || format!("{node} is started by {command}"))?;
    }
    let named = objects(&template(helm, &["ledger.embedded=true", "ledger.embeddedImage=other:1"])?)?;
    let image = variable(&named, "EHRNET_PEER_IMAGE");
    ensure(image.as_deref() == Some("other:1"), || format!("peers run {image:?} where an image is named"))?;
    let contract = |values: &[&str]| -> Result<_, Failed> {
        Ok(variable(&objects(&template(helm, values)?)?, "EHRNET_CONTRACT_IMAGE").unwrap_or_default())
    };
    let own = contract(&["image.repository=r", "image.tag=t"])?;
    ensure(own == "r-contract:t", || format!("contracts run {own} by default"))?;
    let other = contract(&["contract.image=other:1"])?;
    ensure(other == "other:1", || format!("contracts run {other} where an image is named"))?;
    Ok(())
}

fn refused_values(helm: &Path) -> Result<(), Failed> {
    for (values, named) in [
        (vec!["replicas=2", "leaderElection=false"], "leaderElection"),
        (vec!["watchAllNamespaces=true", "watchNamespaces={mercy}"], "watchNamespaces"),
        (vec!["watchNamespaces={Mercy}"], "watchNamespaces"),
        (vec!["ledgr.embedded=true"], "ledgr"),
    ] {
        match template(helm, &values) {
            Ok(_) => return Err(format!("{values:?} were taken").into()),
            Err(error) => {
                let text = error.message().unwrap_or_default().to_owned();
                ensure(text.contains(named), || format!("{values:?} were refused without naming {named}: {text}"))?;
            }
        }
    }
    Ok(())
}
