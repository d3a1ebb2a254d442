//! The command line.

use crate::{
    bench, build, demo, generate, packages, python,
    setup::{self, WasmSource},
    suite,
    workspace::Workspace,
};
use anyhow::{Result, bail};
use lexopt::prelude::*;
use std::ffi::OsString;

const HELP: &str = "\
cargo xtask <command>

  demo [--port 8600] [--no-open] [--check]
                     build everything in release, start the worker with the studio, draw a first picture;
                     --check verifies that picture, stops the worker and exits
  test               every test of every language, in the order of what fails quickest
  setup              fetch what the other commands need: wasm target, wasm-bindgen, npm packages, Chromium
  build-sdk          @scumble/sdk: wasm, bindings, TypeScript; checks its size
  build-ui           @scumble/react and the studio
  generate [--check] write the TypeScript types from worker/crates/protocol, or say whether they drifted
  package            npm tarballs of both packages in target/xtask/packages
  golden [...]       make the golden tensors anew with diffusers (Python; arguments go to the script)
  bench full-size [sd15] [sdxl]
                     draw with Stable Diffusion 1.5 and SDXL of random weights at their real sizes: seconds a step,
                     peak memory (Python makes them once, 9 GB in .tools/bench; needs 16 GB of memory, minutes to
                     an hour)
  pocket [...]       train, evaluate or export the embedded model (Python; arguments go to the script)

setup and build-sdk take --wasm rustup|debian to say where the wasm standard library comes from;
left out, the toolchain's own is used, then rustup's, then one built from Debian's sources.
";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Demo(demo::Options),
    Test,
    Setup(WasmSource),
    BuildSdk(WasmSource),
    BuildUi,
    Generate { check: bool },
    Package,
    BenchFullSize(Vec<String>),
    Golden(Vec<OsString>),
    Pocket(Vec<OsString>),
}

/// Reads the command line; `words` begins with the program's own name.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Command> {
    let mut parser = lexopt::Parser::from_iter(words);
    let name = match parser.next()? {
        None | Some(Short('h') | Long("help")) => return Ok(Command::Help),
        Some(Value(name)) => name.string()?,
        Some(other) => return Err(other.unexpected().into()),
    };
    let command = match name.as_str() {
        "help" => Command::Help,
        "demo" => demo_options(&mut parser)?,
        "test" => Command::Test,
        "setup" => Command::Setup(wasm_source(&mut parser)?),
        "build-sdk" => Command::BuildSdk(wasm_source(&mut parser)?),
        "build-ui" => Command::BuildUi,
        "generate" => generate_options(&mut parser)?,
        "package" => Command::Package,
        "bench" => bench_options(&mut parser)?,
        "golden" => return Ok(Command::Golden(parser.raw_args()?.collect())),
        "pocket" => return Ok(Command::Pocket(parser.raw_args()?.collect())),
        _ => bail!("no command `{name}`; `cargo xtask help` lists them"),
    };
    match parser.next()? {
        None => Ok(command),
        Some(Short('h') | Long("help")) => Ok(Command::Help),
        Some(other) => Err(other.unexpected().into()),
    }
}

fn demo_options(parser: &mut lexopt::Parser) -> Result<Command> {
    let mut options = demo::Options::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("port") => options.port = parser.value()?.parse()?,
            Long("no-open") => options.open = false,
            Long("check") => options.check = true,
            Short('h') | Long("help") => return Ok(Command::Help),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Demo(options))
}

fn generate_options(parser: &mut lexopt::Parser) -> Result<Command> {
    let mut check = false;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("check") => check = true,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Generate { check })
}

fn bench_options(parser: &mut lexopt::Parser) -> Result<Command> {
    let mut words = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    match words.split_first() {
        Some((what, models)) if what == "full-size" => Ok(Command::BenchFullSize(models.to_vec())),
        _ => bail!("bench takes what to measure: full-size"),
    }
}

fn wasm_source(parser: &mut lexopt::Parser) -> Result<WasmSource> {
    let mut source = WasmSource::Any;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("wasm") => {
                source = match parser.value()?.string()?.as_str() {
                    "rustup" => WasmSource::Rustup,
                    "debian" => WasmSource::Debian,
                    other => bail!("--wasm must be rustup or debian, got {other}"),
                }
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(source)
}

impl Command {
    /// Does it.
    pub(crate) fn run(self, workspace: &Workspace) -> Result<()> {
        match self {
            Self::Help => {
                print!("{HELP}");
                Ok(())
            }
            Self::Demo(options) => demo::run(workspace, &options),
            Self::Test => suite::run(workspace),
            Self::Setup(source) => setup::everything(workspace, source),
            Self::BuildSdk(source) => build::sdk(workspace, source),
            Self::BuildUi => build::ui(workspace),
            Self::Generate { check: true } => generate::check(workspace),
            Self::Generate { check: false } => generate::write(workspace),
            Self::Package => packages::pack(workspace),
            Self::BenchFullSize(models) => bench::full_size(workspace, &models),
            Self::Golden(arguments) => python::golden(workspace, &arguments),
            Self::Pocket(arguments) => python::pocket(workspace, &arguments),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command> {
        parse(
            std::iter::once("xtask")
                .chain(line.split_whitespace())
                .map(OsString::from),
        )
    }

    #[test]
    fn demo_listens_on_8600_and_opens_a_browser_unless_told_otherwise() {
        let expected = demo::Options {
            port: 8600,
            open: true,
            check: false,
        };
        assert_eq!(parsed("demo").expect("parsed"), Command::Demo(expected));
        let expected = demo::Options {
            port: 9000,
            open: false,
            check: true,
        };
        assert_eq!(
            parsed("demo --port 9000 --no-open --check").expect("parsed"),
            Command::Demo(expected)
        );
    }

    #[test]
    fn unknown_commands_and_options_are_refused_by_name() {
        for (line, word) in [
            ("dmeo", "dmeo"),
            ("demo --chekc", "--chekc"),
            ("test now", "now"),
            ("demo --port 70000", "70000"),
            ("setup --wasm apt", "apt"),
        ] {
            let error = parsed(line).expect_err(line).to_string();
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn arguments_of_the_python_scripts_pass_through_untouched() {
        assert_eq!(
            parsed("pocket --stage train").expect("parsed"),
            Command::Pocket(vec!["--stage".into(), "train".into()])
        );
    }
}
