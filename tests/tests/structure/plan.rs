//! Reads the plan of crates, Documentation/design/architecture.md, and compares the crates with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Crates, each with the crates of the workspace that it uses.
pub type Dependencies = BTreeMap<String, BTreeSet<String>>;

/// The lines of the fenced block ```` ```NAME ```` in a Markdown text; `None` if the text has none or more than one.
pub fn block<'t>(text: &'t str, name: &str) -> Option<Vec<&'t str>> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else { continue };
        let inside: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
        if info.trim() == name {
            blocks.push(inside);
        }
    }
    let block = blocks.pop()?;
    blocks.is_empty().then_some(block)
}

/// Reads lines of the form `crate -> dependency, dependency`. A line may have no dependency; `#` starts a comment.
///
/// # Errors
/// A sentence that names the line that has another form.
pub fn dependencies(block: &[&str]) -> Result<Dependencies, String> {
    let mut plan = Dependencies::new();
    for line in block {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let (name, uses) = line.split_once("->").unwrap_or((line, ""));
        let uses: BTreeSet<String> =
            uses.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        let names = uses.iter().map(String::as_str).chain([name.trim()]);
        if names.into_iter().any(|name| name.is_empty() || name.contains(char::is_whitespace)) {
            return Err(format!("not of the form crate -> dependency, dependency: {line}"));
        }
        if plan.insert(name.trim().to_owned(), uses).is_some() {
            return Err(format!("{} stands there twice", name.trim()));
        }
    }
    Ok(plan)
}

/// The differences between the plan and the crates, a line each; empty if there are none.
pub fn differences(plan: &Dependencies, real: &Dependencies) -> String {
    let mut text = String::new();
    for name in plan.keys().chain(real.keys()).collect::<BTreeSet<_>>() {
        match (plan.get(name), real.get(name)) {
            (Some(planned), Some(used)) => {
                for dependency in used.difference(planned) {
                    let _ = writeln!(text, "{name} uses {dependency}, and the plan does not allow it");
                }
                for dependency in planned.difference(used) {
                    let _ = writeln!(text, "the plan says that {name} uses {dependency}, and it does not");
                }
            }
            (None, _) => {
                let _ = writeln!(text, "{name} is not in the plan");
            }
            (_, None) => {
                let _ = writeln!(text, "the plan has {name}, which is no crate of the workspace");
            }
        }
    }
    text
}
