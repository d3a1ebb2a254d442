//! Every test of every language, in the order of what fails quickest.

use crate::{
    boundaries, build, generate,
    setup::{self, WasmSource},
    task::Task,
    workspace::Workspace,
};
use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// One thing that must hold.
struct Stage {
    name: &'static str,
    /// What to type to see only this stage.
    again: &'static str,
    run: fn(&Workspace) -> Result<()>,
}

const STAGES: [Stage; 17] = [
    Stage {
        name: "rustfmt",
        again: "cargo fmt --all --check",
        run: |workspace| cargo(workspace, &["fmt", "--all", "--check"]),
    },
    Stage {
        name: "tools and packages",
        again: "cargo xtask setup",
        run: |workspace| setup::everything(workspace, WasmSource::Any),
    },
    Stage {
        name: "boundaries",
        again: "cargo test -p xtask boundaries",
        run: boundaries::check,
    },
    Stage {
        name: "generated types",
        again: "cargo xtask generate --check",
        run: generate::check,
    },
    Stage {
        name: "the SDK: wasm and its size",
        again: "cargo xtask build-sdk",
        run: |workspace| build::sdk(workspace, WasmSource::Any),
    },
    Stage {
        name: "the React package and the studio",
        again: "cargo xtask build-ui",
        run: build::ui,
    },
    Stage {
        name: "JavaScript lint",
        again: "npm run lint (in sdk-wasm and in ui)",
        run: |workspace| in_packages(workspace, "lint"),
    },
    Stage {
        name: "TypeScript",
        again: "npm run typecheck (in sdk-wasm and in ui)",
        run: |workspace| in_packages(workspace, "typecheck"),
    },
    Stage {
        name: "published packages",
        again: "npm run publint (in sdk-wasm and in ui/packages/react)",
        run: lint_packages,
    },
    Stage {
        name: "the embedded model's training scripts",
        again: "python3 worker/models/pocket/train/selftest.py",
        run: |workspace| {
            Task::new("python3")
                .args(["worker/models/pocket/train/selftest.py"])
                .folder(workspace.root())
                .run()
        },
    },
    Stage {
        name: "clippy",
        again: "cargo clippy --workspace --all-targets -- -D warnings",
        run: |workspace| {
            cargo(
                workspace,
                &[
                    "clippy",
                    "--workspace",
                    "--all-targets",
                    "--locked",
                    "--",
                    "-D",
                    "warnings",
                ],
            )
        },
    },
    Stage {
        name: "Rust tests",
        again: "cargo test --workspace",
        run: |workspace| cargo(workspace, &["test", "--workspace", "--locked"]),
    },
    Stage {
        name: "Rust documentation",
        again: "RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps",
        run: |workspace| {
            Task::new("cargo")
                .args(["doc", "--workspace", "--no-deps", "--locked"])
                .env("RUSTDOCFLAGS", "-D warnings")
                .folder(workspace.root())
                .run()
        },
    },
    Stage {
        name: "the SDK's tests, with its package as packed",
        again: "npm test (in sdk-wasm, with SCUMBLE_BIN)",
        run: |workspace| on_a_real_worker(workspace, "npm", &["test"], "sdk-wasm"),
    },
    Stage {
        name: "the React package's tests",
        again: "npm test (in ui, with SCUMBLE_BIN)",
        run: |workspace| on_a_real_worker(workspace, "npm", &["test"], "ui"),
    },
    Stage {
        name: "end to end in Chromium",
        again: "npm test -w e2e (in ui, with SCUMBLE_BIN and CHROMIUM_PATH)",
        run: |workspace| on_a_real_worker(workspace, "npm", &["test", "-w", "e2e"], "ui"),
    },
    Stage {
        name: "the examples, with the packed packages",
        again: "node run.mjs (in examples, with SCUMBLE_BIN and CHROMIUM_PATH)",
        run: |workspace| on_a_real_worker(workspace, "node", &["run.mjs"], "examples"),
    },
];

/// Runs them all, up to the first that fails.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let started = Instant::now();
    for (passed, stage) in STAGES.iter().enumerate() {
        let begun = Instant::now();
        eprintln!("── {}/{} {}", passed + 1, STAGES.len(), stage.name);
        if let Err(error) = (stage.run)(workspace) {
            eprintln!("   {error:#}");
            // The last line of all, which `main` prints.
            bail!(
                "{passed} passed, 1 failed: {}, after {}. To see it alone: {}",
                stage.name,
                spoken(started.elapsed()),
                stage.again
            );
        }
        eprintln!("── {}: ok, {}", stage.name, spoken(begun.elapsed()));
    }
    println!(
        "{} passed, 0 failed: every check of every language holds, in {}",
        STAGES.len(),
        spoken(started.elapsed())
    );
    Ok(())
}

fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        let whole = duration.as_secs();
        format!("{} min {} s", whole / 60, whole % 60)
    }
}

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    Task::new("cargo")
        .args(arguments)
        .folder(workspace.root())
        .run()
}

/// One script of the SDK and of the user interface, which passes it on to its packages.
fn in_packages(workspace: &Workspace, script: &str) -> Result<()> {
    build::npm_run(&workspace.sdk(), &["run", script])?;
    build::npm_run(&workspace.ui(), &["run", script])
}

fn lint_packages(workspace: &Workspace) -> Result<()> {
    build::npm_run(&workspace.sdk(), &["run", "publint"])?;
    build::npm_run(
        &workspace.ui(),
        &["run", "publint", "--workspaces", "--if-present"],
    )
}

/// A command in one of our folders that starts our worker, and where it needs one a browser, by itself.
fn on_a_real_worker(
    workspace: &Workspace,
    program: &str,
    arguments: &[&str],
    folder: &str,
) -> Result<()> {
    let binary = build::worker_for_tests(workspace)?;
    Task::new(program)
        .args(arguments)
        .env("SCUMBLE_BIN", binary)
        .env("CHROMIUM_PATH", setup::chromium()?)
        .folder(&workspace.root().join(folder))
        .run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_one_would_say_them() {
        assert_eq!(spoken(Duration::from_millis(2_340)), "2.3 s");
        assert_eq!(spoken(Duration::from_secs(754)), "12 min 34 s");
    }
}
