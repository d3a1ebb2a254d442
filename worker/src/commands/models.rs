//! `scumble models`: which there are, and where they come from.

mod inspect;
mod list;
mod pull;
mod remove;

use crate::{
    catalog::Origin,
    config::{ModelsArgs, ModelsCommand},
};
use std::io::{self, Write as _};

pub(super) fn run(args: ModelsArgs) -> Result<(), String> {
    match args.command {
        None => list::run(&args.list),
        Some(ModelsCommand::List(args)) => list::run(&args),
        Some(ModelsCommand::Pull(args)) => pull::run(&args),
        Some(ModelsCommand::Inspect(args)) => inspect::run(&args),
        Some(ModelsCommand::Rm(args)) => remove::run(&args),
    }
}

/// Where a model came from, in a few words.
fn origin_words(origin: &Origin) -> String {
    match origin {
        Origin::Embedded => "inside the binary".to_owned(),
        Origin::Named(path) | Origin::Folder(path) => path.display().to_string(),
        Origin::Hub(id, _) => format!("hub {id}"),
    }
}

/// Rows in columns as wide as their widest cell.
fn print_table(rows: &[Vec<String>]) -> Result<(), String> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        print_line(cells.join("  ").trim_end())?;
    }
    Ok(())
}

fn print_json(value: &impl serde::Serialize) -> Result<(), String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    print_line(&text)
}

/// Fails instead of panicking when nobody reads on.
fn print_line(line: &str) -> Result<(), String> {
    writeln!(io::stdout().lock(), "{line}").map_err(|error| error.to_string())
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_read_in_groups_of_three() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(859_520_964), "859,520,964");
    }
}
