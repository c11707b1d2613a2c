//! Volumes of a pod as folders, as the kubelet makes them: same files, same modes, same owners.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath, Pod, Secret, Volume, VolumeProjection};
use kube::{Api, Client};

/// Why a volume cannot be made yet, as the kubelet would say it.
pub type Missing = String;

/// Who owns the files of the pod's volumes.
#[derive(Clone, Copy)]
pub struct Owner {
    /// `fsGroup` of the pod.
    pub group: Option<u32>,
    /// Whether we may give files away at all.
    pub root: bool,
}

struct Item {
    path: String,
    bytes: Vec<u8>,
    mode: u32,
}

/// Makes every volume of `pod` below `folder` (claims below `claims`) and returns where each is.
pub async fn make(
    client: &Client,
    namespace: &str,
    pod: &Pod,
    folder: &Path,
    claims: &Path,
    owner: Owner,
) -> Result<BTreeMap<String, PathBuf>, Missing> {
    let mut made = BTreeMap::new();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let path = match &volume.persistent_volume_claim {
            Some(claim) => claims.join(&claim.claim_name),
            None => folder.join(&volume.name),
        };
        fs::create_dir_all(&path).expect("make a folder for a volume");
        give(&path, owner, 0o2775);
        for item in content(client, namespace, volume).await? {
            let file = path.join(&item.path);
            fs::create_dir_all(file.parent().expect("inside the volume")).expect("make a folder");
            // A file of an earlier start may be read-only.
            let _ = fs::remove_file(&file);
            fs::write(&file, &item.bytes).expect("write a file of a volume");
            // With fsGroup the kubelet adds what the group needs: read, and execute where the owner has it.
            give(&file, owner, if owner.group.is_some() { item.mode | 0o040 } else { item.mode });
        }
        made.insert(volume.name.clone(), path);
    }
    Ok(made)
}

fn give(path: &Path, owner: Owner, mode: u32) {
    if owner.root {
        chown(path, Some(0), Some(owner.group.unwrap_or(0))).expect("chown");
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

async fn content(client: &Client, namespace: &str, volume: &Volume) -> Result<Vec<Item>, Missing> {
    let read = Reader {
        secrets: Api::namespaced(client.clone(), namespace),
        maps: Api::namespaced(client.clone(), namespace),
    };
    if let Some(source) = &volume.secret {
        let name = source.secret_name.clone().unwrap_or_default();
        return read.secret(&name, source.items.as_deref(), source.default_mode, source.optional).await;
    }
    if let Some(source) = &volume.config_map {
        return read.config_map(&source.name, source.items.as_deref(), source.default_mode, source.optional).await;
    }
    if let Some(source) = &volume.projected {
        let mut items = Vec::new();
        for projection in source.sources.iter().flatten() {
            items.extend(read.projection(projection, source.default_mode).await?);
        }
        return Ok(items);
    }
    let known = volume.persistent_volume_claim.is_some() || volume.empty_dir.is_some();
    assert!(known, "volume {}: a source that the operator is not expected to use", volume.name);
    Ok(Vec::new())
}

struct Reader {
    secrets: Api<Secret>,
    maps: Api<ConfigMap>,
}

impl Reader {
    async fn projection(&self, source: &VolumeProjection, mode: Option<i32>) -> Result<Vec<Item>, Missing> {
        if let Some(secret) = &source.secret {
            return self.secret(&secret.name, secret.items.as_deref(), mode, secret.optional).await;
        }
        if let Some(map) = &source.config_map {
            return self.config_map(&map.name, map.items.as_deref(), mode, map.optional).await;
        }
        panic!("a projection that the operator is not expected to use: {source:?}");
    }

    async fn secret(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        mode: Option<i32>,
        optional: Option<bool>,
    ) -> Result<Vec<Item>, Missing> {
        match self.secrets.get_opt(name).await.expect("read a Secret") {
            Some(secret) => {
                let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
                select(&format!("secret {name:?}"), data.collect(), items, mode)
            }
            None if optional == Some(true) => Ok(Vec::new()),
            None => Err(format!("secret {name:?} not found")),
        }
    }

    async fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        mode: Option<i32>,
        optional: Option<bool>,
    ) -> Result<Vec<Item>, Missing> {
        match self.maps.get_opt(name).await.expect("read a ConfigMap") {
            Some(map) => {
                let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
                let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
                select(&format!("configmap {name:?}"), text.chain(binary).collect(), items, mode)
            }
            None if optional == Some(true) => Ok(Vec::new()),
            None => Err(format!("configmap {name:?} not found")),
        }
    }
}

fn select(
    of: &str,
    mut data: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    mode: Option<i32>,
) -> Result<Vec<Item>, Missing> {
    let mode = |own: Option<i32>| own.or(mode).unwrap_or(0o644) as u32;
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(data.into_iter().map(|(path, bytes)| Item { path, bytes, mode: mode(None) }).collect());
    };
    let mut selected = Vec::new();
    for item in items {
        let bytes =
            data.remove(&item.key).ok_or_else(|| format!("references non-existent key {} of {of}", item.key))?;
        selected.push(Item { path: item.path.clone(), bytes, mode: mode(item.mode) });
    }
    Ok(selected)
}
