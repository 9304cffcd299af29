//! The links of the documentation have targets, and the files of this project that it mentions exist.

use std::path::{Path, PathBuf};

/// The documentation files: those of `Documentation` and its directories, and those at the top.
fn texts() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut texts = Vec::new();
    let mut directories = vec![root.join("Documentation")];
    while let Some(directory) = directories.pop() {
        for entry in directory.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|it| it == "md") {
                texts.push(path);
            }
        }
    }
    let top = ["README.md", "CONTRIBUTING.md", "POLICIES.md", "CHANGELOG.md", "tests/fixtures/README.md"];
    texts.extend(top.map(|name| root.join(name)));
    texts
}

/// The HTML anchors of a Markdown page's headings: words joined by hyphens, without punctuation.
fn anchors(page: &str) -> Vec<String> {
    let headings =
        page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: char| c.is_alphanumeric() || "-_ ".contains(c);
    headings.map(|heading| heading.to_lowercase().replace(|c| !kept(c), "").replace(' ', "-")).collect()
}

#[test]
fn links_have_targets() {
    for text in texts() {
        let page = std::fs::read_to_string(&text).unwrap();
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (path, anchor) =
                link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
            let target = if path.is_empty() { text.clone() } else { text.with_file_name(path) };
            assert!(target.exists(), "{}: {link}: the file does not exist", text.display());
            if let Some(anchor) = anchor {
                let there = anchors(&std::fs::read_to_string(target).unwrap());
                assert!(
                    there.iter().any(|it| it == anchor),
                    "{}: {link}: no such heading; the headings are {there:?}",
                    text.display()
                );
            }
        }
    }
}

#[test]
fn mentioned_files_exist() {
    const ROOMS: [&str; 5] = ["scanner-core/", "host-tools/", "linker/", "tests/", "Documentation/"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for text in texts() {
        let page = std::fs::read_to_string(&text).unwrap();
        let words = page.split(|c: char| c.is_whitespace() || "`()[],;:'\"#".contains(c));
        for word in words.map(|word| word.trim_end_matches('.')) {
            let is_pattern = word == "tests/machines/*" || word.contains("NAME");
            let named = ROOMS.iter().any(|room| word.starts_with(room)) && !is_pattern;
            assert!(!named || root.join(word).exists(), "{}: {word} does not exist", text.display());
        }
    }
}
