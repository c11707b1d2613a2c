//! Compiles Fabric's messages (`src/fabric/messages/`) with protox, so that no `protoc` is needed to build.

use std::error::Error;
use std::path::{Path, PathBuf};

/// Where they are.
const FOLDER: &str = "messages";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={FOLDER}");
    let mut files = Vec::new();
    collect(Path::new(FOLDER), &mut files)?;
    files.sort();
    let descriptors = protox::compile(&files, [FOLDER])?;
    tonic_prost_build::configure()
        // `Chaincode/Connect` would collide with the generated constructor `connect`.
        .build_transport(false)
        // Ordered maps: the same configuration is always the same bytes.
        .btree_map(".")
        .include_file("fabric.rs")
        .compile_fds(descriptors)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
