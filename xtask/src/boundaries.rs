//! Which part may know which: the rules of docs/ARCHITECTURE.md, checked on the manifests and the sources.
//!
//! Rust's rules are read off cargo's resolved graph, so a forbidden crate is found however deep it hides. JavaScript's
//! are read off the import statements.

use crate::{task::Task, workspace::Workspace};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

/// What one of our crates may use of ours, and what must not even be among the dependencies of its dependencies.
struct CrateRule {
    name: &'static str,
    ours: &'static [&'static str],
    never: &'static [&'static str],
}

const CRATE_RULES: [CrateRule; 7] = [
    CrateRule {
        name: "scumble-protocol",
        ours: &[],
        never: &[
            "tokio",
            "axum",
            "hyper",
            "reqwest",
            "candle-core",
            "rusqlite",
        ],
    },
    CrateRule {
        name: "scumble-diffusion",
        ours: &[],
        never: &["tokio", "axum", "hyper", "reqwest", "rusqlite"],
    },
    CrateRule {
        name: "scumble-jobs",
        ours: &[],
        never: &["candle-core", "candle-nn", "axum", "hyper"],
    },
    CrateRule {
        name: "scumble-testkit",
        ours: &[
            "scumble-protocol",
            "scumble-diffusion",
            "scumble-jobs",
            "scumble-worker",
        ],
        never: &[],
    },
    CrateRule {
        name: "scumble-worker",
        ours: &["scumble-protocol", "scumble-diffusion", "scumble-jobs"],
        never: &[],
    },
    CrateRule {
        name: "scumble-sdk",
        ours: &["scumble-protocol"],
        never: &["axum", "candle-core", "rusqlite"],
    },
    CrateRule {
        name: "xtask",
        ours: &[],
        never: &["tokio", "candle-core"],
    },
];

/// Which of our packages a JavaScript package may import.
struct ScriptRule {
    folder: &'static str,
    /// `None`: any package of others. `Some`: these alone.
    others: Option<&'static [&'static str]>,
    ours: &'static [&'static str],
}

const SCRIPT_RULES: [ScriptRule; 4] = [
    ScriptRule {
        folder: "sdk-wasm/js/src",
        others: Some(&[]),
        ours: &[],
    },
    ScriptRule {
        folder: "ui/packages/react/src",
        others: Some(&["react", "react/jsx-runtime"]),
        ours: &["@scumble/sdk"],
    },
    ScriptRule {
        folder: "ui/app/src",
        others: None,
        ours: &["@scumble/sdk", "@scumble/react"],
    },
    ScriptRule {
        folder: "examples",
        others: None,
        ours: &["@scumble/sdk", "@scumble/react"],
    },
];

const SCRIPT_ENDINGS: [&str; 8] = ["ts", "tsx", "mts", "cts", "js", "jsx", "mjs", "cjs"];

/// An error that lists every crossing of a boundary.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let metadata = Task::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked"])
        .folder(workspace.root())
        .output()?;
    let metadata: Value = serde_json::from_str(&metadata).context("reading `cargo metadata`")?;
    let mut crossings = crate_crossings(&Graph::read(&metadata)?, &CRATE_RULES);
    crossings.extend(engine_crossings(&workspace.root().join("worker/src"))?);
    for rule in &SCRIPT_RULES {
        crossings.extend(script_crossings(workspace.root(), rule)?);
    }
    if !crossings.is_empty() {
        bail!(
            "{} boundaries are crossed:\n  {}",
            crossings.len(),
            crossings.join("\n  ")
        );
    }
    Ok(())
}

/// Cargo's resolved dependencies, by package id; what only tests use is left out.
#[derive(Debug, Default)]
struct Graph {
    names: BTreeMap<String, String>,
    uses: BTreeMap<String, BTreeSet<String>>,
    members: BTreeSet<String>,
}

impl Graph {
    fn read(metadata: &Value) -> Result<Self> {
        let mut graph = Self::default();
        for package in list(metadata, "/packages")? {
            graph
                .names
                .insert(text(package, "/id")?, text(package, "/name")?);
        }
        for member in list(metadata, "/workspace_members")? {
            graph.members.insert(
                member
                    .as_str()
                    .context("a member without an id")?
                    .to_owned(),
            );
        }
        for node in list(metadata, "/resolve/nodes")? {
            let mut uses = BTreeSet::new();
            for dependency in list(node, "/deps")? {
                // A kind of null is a normal dependency.
                let only_for_tests = list(dependency, "/dep_kinds")?
                    .iter()
                    .all(|kind| kind.get("kind").and_then(Value::as_str) == Some("dev"));
                if !only_for_tests {
                    uses.insert(text(dependency, "/pkg")?);
                }
            }
            graph.uses.insert(text(node, "/id")?, uses);
        }
        Ok(graph)
    }

    fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.names.get(id).map_or(id, String::as_str)
    }

    fn direct<'a>(&'a self, id: &str) -> impl Iterator<Item = &'a String> + use<'a> {
        self.uses.get(id).into_iter().flatten()
    }

    /// A way from `from` to a crate called `name`, as names, if there is one.
    fn way<'a>(&'a self, from: &'a str, name: &str) -> Option<Vec<&'a str>> {
        let mut came_from: BTreeMap<&'a str, &'a str> = BTreeMap::new();
        let mut open = std::collections::VecDeque::from([from]);
        while let Some(id) = open.pop_front() {
            if id != from && self.name(id) == name {
                let mut way = vec![self.name(id)];
                let mut at = id;
                while let Some(before) = came_from.get(at) {
                    way.push(self.name(before));
                    at = before;
                }
                way.reverse();
                return Some(way);
            }
            for next in self.direct(id) {
                if next != from && !came_from.contains_key(next.as_str()) {
                    came_from.insert(next, id);
                    open.push_back(next);
                }
            }
        }
        None
    }
}

fn list<'a>(value: &'a Value, pointer: &str) -> Result<&'a Vec<Value>> {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .with_context(|| format!("`cargo metadata` has no list at {pointer}"))
}

fn text(value: &Value, pointer: &str) -> Result<String> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .with_context(|| format!("`cargo metadata` has no text at {pointer}"))
}

fn crate_crossings(graph: &Graph, rules: &[CrateRule]) -> Vec<String> {
    let mut crossings = Vec::new();
    for member in &graph.members {
        let name = graph.name(member);
        let Some(rule) = rules.iter().find(|rule| rule.name == name) else {
            crossings.push(format!("{name} has no rule; say in xtask what it may use"));
            continue;
        };
        for used in graph
            .direct(member)
            .filter(|id| graph.members.contains(*id))
        {
            let used = graph.name(used);
            if !rule.ours.contains(&used) {
                crossings.push(format!("{name} must not use {used}"));
            }
        }
        for never in rule.never {
            if let Some(way) = graph.way(member, never) {
                crossings.push(format!(
                    "{name} must not reach {never}: {}",
                    way.join(" → ")
                ));
            }
        }
    }
    crossings
}

/// Only the engine may know both the queue and the models.
fn engine_crossings(sources: &Path) -> Result<Vec<String>> {
    let mut crossings = Vec::new();
    for path in files(sources, &["rs"])? {
        let relative = path.strip_prefix(sources).unwrap_or(&path);
        if relative.starts_with("engine") || relative == Path::new("engine.rs") {
            continue;
        }
        let source = read(&path)?;
        if source.contains("scumble_jobs") && source.contains("scumble_diffusion") {
            crossings.push(format!(
                "worker/src/{} knows both jobs and diffusion; only the engine may",
                relative.display()
            ));
        }
    }
    Ok(crossings)
}

fn script_crossings(root: &Path, rule: &ScriptRule) -> Result<Vec<String>> {
    let folder = root.join(rule.folder);
    let mut crossings = Vec::new();
    for path in files(&folder, &SCRIPT_ENDINGS)? {
        for import in imports(&read(&path)?) {
            if let Some(reason) = objection(rule, &folder, &path, &import) {
                let file = path.strip_prefix(root).unwrap_or(&path);
                crossings.push(format!("{} imports `{import}`: {reason}", file.display()));
            }
        }
    }
    Ok(crossings)
}

/// Why `file` must not import `import`, if it must not.
fn objection(rule: &ScriptRule, folder: &Path, file: &Path, import: &str) -> Option<&'static str> {
    if import.starts_with('.') {
        let target = resolved(&file.parent()?.join(import));
        return (!target.starts_with(folder)).then_some("it lies outside of the package");
    }
    // A package's own `imports` map, and what the bundler provides.
    if import.starts_with('#') || import.starts_with("virtual:") {
        return None;
    }
    let allowed = if import.starts_with("@scumble/") {
        rule.ours.contains(&import)
            || import.ends_with(".css") && rule.ours.iter().any(|ours| import.starts_with(ours))
    } else if import.starts_with("node:") {
        true
    } else {
        rule.others.is_none_or(|others| others.contains(&import))
    };
    (!allowed).then_some("not among what this package may import")
}

/// `path` without `.` and `..`, on paper: the files need not exist under these very names.
fn resolved(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}

/// What a source imports, statically or not. Lexical: a quoted word right behind `from`, `import` or `require`.
fn imports(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for keyword in ["from", "import", "require"] {
        for (at, _) in source.match_indices(keyword) {
            let before = source.get(..at).and_then(|text| text.chars().next_back());
            if before.is_some_and(|before| before.is_alphanumeric() || "_$.@/-".contains(before)) {
                continue;
            }
            let rest = source
                .get(at + keyword.len()..)
                .unwrap_or_default()
                .trim_start();
            let rest = rest.strip_prefix('(').unwrap_or(rest).trim_start();
            let Some(quote) = rest.chars().next().filter(|first| "'\"".contains(*first)) else {
                continue;
            };
            if let Some((word, _)) = rest.get(1..).and_then(|rest| rest.split_once(quote))
                && !word.is_empty()
                && !word.contains(char::is_whitespace)
            {
                found.push(word.to_owned());
            }
        }
    }
    found
}

/// All files below `folder` with one of these endings, what was installed or built left out.
fn files(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), "node_modules" | "dist" | "wasm" | ".next") {
                    open.push(path);
                }
            } else if path
                .extension()
                .is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn this_checkout_keeps_its_boundaries() {
        check(&Workspace::locate().expect("checkout")).expect("no boundary is crossed");
    }

    /// A crate and the kind of its use, as cargo names kinds: nothing for a normal one.
    type Use = (&'static str, Option<&'static str>);

    /// Packages and their uses as `cargo metadata` tells them; the members come first.
    fn graph(members: usize, packages: &[(&str, &[Use])]) -> Graph {
        let metadata = json!({
            "packages": packages.iter().map(|(name, _)| json!({"id": name, "name": name})).collect::<Vec<_>>(),
            "workspace_members": packages.iter().take(members).map(|(name, _)| name).collect::<Vec<_>>(),
            "resolve": {"nodes": packages.iter().map(|(name, uses)| json!({
                "id": name,
                "deps": uses.iter().map(|(used, kind)| json!({"pkg": used, "dep_kinds": [{"kind": kind}]})).collect::<Vec<_>>(),
            })).collect::<Vec<_>>()},
        });
        Graph::read(&metadata).expect("graph")
    }

    #[test]
    fn a_crate_of_ours_that_is_not_allowed_is_a_crossing() {
        let graph = graph(
            2,
            &[
                ("scumble-protocol", &[("scumble-jobs", None)]),
                ("scumble-jobs", &[]),
            ],
        );
        assert_eq!(
            crate_crossings(&graph, &CRATE_RULES),
            ["scumble-protocol must not use scumble-jobs"]
        );
    }

    #[test]
    fn a_forbidden_crate_is_found_behind_another_with_the_way_to_it() {
        let graph = graph(
            1,
            &[
                ("scumble-diffusion", &[("middle", None)]),
                ("middle", &[("tokio", None)]),
                ("tokio", &[]),
            ],
        );
        assert_eq!(
            crate_crossings(&graph, &CRATE_RULES),
            ["scumble-diffusion must not reach tokio: scumble-diffusion → middle → tokio"]
        );
    }

    #[test]
    fn what_only_tests_use_is_no_crossing() {
        let graph = graph(
            1,
            &[
                ("scumble-protocol", &[("tokio", Some("dev"))]),
                ("tokio", &[]),
            ],
        );
        assert!(crate_crossings(&graph, &CRATE_RULES).is_empty());
    }

    #[test]
    fn a_new_crate_without_a_rule_is_a_crossing() {
        let crossings = crate_crossings(&graph(1, &[("scumble-new", &[])]), &CRATE_RULES);
        assert_eq!(
            crossings,
            ["scumble-new has no rule; say in xtask what it may use"]
        );
    }

    #[test]
    fn every_form_of_import_is_read() {
        let source = r#"
            import a from "a"; import { b,
              c } from 'b';
            export * from "./c";
            import "d.css";
            const e = await import("e"); const f = require('f');
            // from here on: "nothing"
            const important = "not this"; transform("nor this");
        "#;
        let mut found = imports(source);
        found.sort();
        assert_eq!(found, ["./c", "a", "b", "d.css", "e", "f"]);
    }

    #[test]
    fn the_react_package_may_import_react_and_the_sdks_entry_alone() {
        let root = tempfile::tempdir().expect("folder");
        let source = root.path().join("ui/packages/react/src");
        fs::create_dir_all(&source).expect("folders");
        fs::write(
            source.join("index.ts"),
            "import { useRef } from \"react\";\nimport { Scumble } from \"@scumble/sdk\";\nexport * from \"./store\";\n\
             import x from \"@scumble/sdk/dist/wasm.js\";\nimport y from \"lodash\";\nimport z from \"../../../app/src/x\";\n",
        )
        .expect("file");
        let rule = SCRIPT_RULES
            .iter()
            .find(|rule| rule.folder == "ui/packages/react/src")
            .expect("rule");
        let crossings = script_crossings(root.path(), rule).expect("crossings");
        assert_eq!(
            crossings,
            [
                "ui/packages/react/src/index.ts imports `@scumble/sdk/dist/wasm.js`: not among what this package may import",
                "ui/packages/react/src/index.ts imports `lodash`: not among what this package may import",
                "ui/packages/react/src/index.ts imports `../../../app/src/x`: it lies outside of the package",
            ]
        );
    }

    #[test]
    fn a_route_that_knows_both_jobs_and_models_is_a_crossing_and_the_engine_is_not() {
        let root = tempfile::tempdir().expect("folder");
        let both = "use scumble_jobs::Store;\nuse scumble_diffusion::Pipeline;\n";
        fs::create_dir_all(root.path().join("engine")).expect("folder");
        fs::write(root.path().join("engine/draw.rs"), both).expect("file");
        fs::write(root.path().join("router.rs"), both).expect("file");
        let crossings = engine_crossings(root.path()).expect("crossings");
        assert_eq!(
            crossings,
            ["worker/src/router.rs knows both jobs and diffusion; only the engine may"]
        );
    }
}
