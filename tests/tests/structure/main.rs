//! The structure of the source: no circles, and the dependencies and the `unsafe` that the plan allows.
//!
//! The plan is Documentation/design/architecture.md, in two fenced blocks: ```` ```plan ```` has a line
//! `crate -> dependency, dependency` for each crate of the workspace, and ```` ```unsafe ```` has a line for each file or
//! directory that may have `unsafe`.

mod circles;
mod kernel_module;
mod modules;
mod plan;
mod tests;
mod unsafe_code;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, TargetKind};
use modules::Modules;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use unsafe_code::UnsafeLines;

const PLAN: &str = "Documentation/design/architecture.md";

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn workspace() -> Metadata {
    let manifest = top().join("Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).no_deps().exec().unwrap()
}

/// The libraries and programs of the workspace, without tests and benchmarks: name and modules.
static CRATES: LazyLock<Vec<(String, Modules)>> = LazyLock::new(crates);

fn crates() -> Vec<(String, Modules)> {
    let mut crates = Vec::new();
    for package in workspace().packages {
        for target in &package.targets {
            let kinds = [TargetKind::Lib, TargetKind::Bin, TargetKind::ProcMacro, TargetKind::StaticLib];
            if !target.kind.iter().any(|kind| kinds.contains(kind)) {
                continue;
            }
            let is_program = target.kind.contains(&TargetKind::Bin);
            let name = if is_program {
                format!("{} (program {})", package.name, target.name)
            } else {
                package.name.to_string()
            };
            let modules = Modules::read(target.src_path.as_std_path()).unwrap();
            crates.push((name, modules));
        }
    }
    crates
}

/// A fenced block of the plan.
fn planned(text: &str, name: &str) -> Vec<String> {
    let block = plan::block(text, name)
        .unwrap_or_else(|| panic!("{PLAN} has no fenced block ```{name}, or more than one"));
    block.into_iter().map(str::to_owned).collect()
}

fn plan_text() -> String {
    std::fs::read_to_string(top().join(PLAN))
        .unwrap_or_else(|error| panic!("{PLAN}, which has the plan of crates and of unsafe: {error}"))
}

#[test]
fn no_files_of_a_crate_use_each_other_in_a_circle() {
    let top = top();
    let found: String = CRATES.iter().map(|(name, modules)| circles::describe(name, modules, &top)).collect();
    assert!(found.is_empty(), "\n{found}Move what both sides need into a file that both use.\n");
}

#[test]
fn no_modules_at_the_top_of_a_crate_use_each_other_in_a_circle() {
    let found: String = CRATES
        .iter()
        .map(|(name, modules)| {
            circles::describe_rooms(name, modules, modules.files[0].parent().unwrap_or(Path::new("")))
        })
        .collect();
    assert!(found.is_empty(), "\n{found}");
}

#[test]
fn the_crates_depend_on_each_other_as_planned() {
    let text = plan_text();
    let block = planned(&text, "plan");
    let plan = plan::dependencies(&block.iter().map(String::as_str).collect::<Vec<_>>())
        .unwrap_or_else(|error| panic!("{PLAN}: ```plan: {error}"));
    let packages = workspace().packages;
    let names: BTreeSet<String> = packages.iter().map(|package| package.name.to_string()).collect();
    let real = packages
        .iter()
        .map(|package| {
            let normal = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
            let uses = normal.map(|dependency| dependency.name.clone()).filter(|name| names.contains(name));
            (package.name.to_string(), uses.collect())
        })
        .collect();
    let differences = plan::differences(&plan, &real);
    assert!(differences.is_empty(), "\n{differences}The plan is in {PLAN}, in the block ```plan.\n");
}

#[test]
fn only_listed_files_have_unsafe_code() {
    let text = plan_text();
    let listed = planned(&text, "unsafe");
    let top = top();
    let mut files = UnsafeLines::new();
    for package in workspace().packages {
        let directory = package.manifest_path.parent().unwrap();
        files.extend(unsafe_code::lines(directory.as_std_path(), &top).unwrap());
    }
    let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
    let differences = unsafe_code::differences(&listed, &files);
    assert!(differences.is_empty(), "\n{differences}The list is in {PLAN}, in the block ```unsafe.\n");
}
