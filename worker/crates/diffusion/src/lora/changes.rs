//! A layer's parts put together to what they change.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::file::{LoraFile, Part, PartInfo};
use super::layer::{Change, Factors, Kronecker, Magnitude, Product, Target};
use super::scaling::PeftConfig;
use crate::error::{Error, Result};

/// All changes of a file, in the order of their layers' names.
pub(super) fn read_changes(file: &LoraFile, data: &[u8]) -> Result<Vec<Change>> {
    let config = PeftConfig::read(file)?;
    let mut changes = Vec::with_capacity(file.layers.len());
    for (place, parts) in &file.layers {
        let mut layer = Parts::read(file, place, parts, data)?;
        let alpha = layer.alpha;
        let strength = |rank: Option<usize>| -> Result<f64> {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            let rank = rank.map(|rank| rank as f64);
            match alpha {
                // Two whole Kronecker factors have no rank; LyCORIS writes an alpha that then counts for nothing.
                Some(alpha) => Ok(rank.map_or(1.0, |rank| alpha / rank)),
                None => config.strength(file, place, rank),
            }
        };
        layer.add_changes(&strength, &mut changes)?;
        layer.nothing_left()?;
    }
    Ok(changes)
}

/// The parts of one layer that were not used yet.
struct Parts<'a> {
    file: &'a str,
    place: &'a str,
    alpha: Option<f64>,
    tensors: BTreeMap<Part, Tensor>,
    infos: &'a BTreeMap<Part, PartInfo>,
}

type Strength<'a> = dyn Fn(Option<usize>) -> Result<f64> + 'a;

impl<'a> Parts<'a> {
    fn read(
        file: &'a LoraFile,
        place: &'a str,
        infos: &'a BTreeMap<Part, PartInfo>,
        data: &[u8],
    ) -> Result<Self> {
        let mut alpha = None;
        let mut tensors = BTreeMap::new();
        for (part, info) in infos {
            if *part == Part::Alpha {
                alpha = Some(info.scalar(&file.name, data)?);
            } else {
                tensors.insert(*part, info.read(&file.name, data)?);
            }
        }
        Ok(Self {
            file: &file.name,
            place,
            alpha,
            tensors,
            infos,
        })
    }

    fn add_changes(&mut self, strength: &Strength<'_>, changes: &mut Vec<Change>) -> Result<()> {
        let place = self.place.to_owned();
        let mut add = |target, factors, strength, magnitude| {
            changes.push(Change {
                place: place.clone(),
                target,
                factors,
                strength,
                magnitude,
            });
        };
        if let Some((factors, rank)) = self.factors()? {
            let strength = strength(rank)?;
            add(Target::Weight, factors, strength, self.magnitude()?);
            if let Some(bias) = self.tensors.remove(&Part::UpBias) {
                add(Target::Bias, Factors::Full(bias), strength, None);
            }
        }
        // Whole differences are added as they are, whatever alpha says.
        if let Some(difference) = self.tensors.remove(&Part::Difference) {
            add(Target::Weight, Factors::Full(difference), 1.0, None);
        }
        if let Some(difference) = self.tensors.remove(&Part::BiasDifference) {
            add(Target::Bias, Factors::Full(difference), 1.0, None);
        }
        Ok(())
    }

    /// The factors of the weight's change and their rank, where they have one.
    fn factors(&mut self) -> Result<Option<(Factors, Option<usize>)>> {
        if let Some(product) = self.product(Part::Up, Part::Down, Some(Part::Mid), false)? {
            let rank = product.down.dim(0)?;
            return Ok(Some((Factors::Product(product), Some(rank))));
        }
        let first = self.product(
            Part::HadamardUp1,
            Part::HadamardDown1,
            Some(Part::HadamardCore1),
            true,
        )?;
        let second = self.product(
            Part::HadamardUp2,
            Part::HadamardDown2,
            Some(Part::HadamardCore2),
            true,
        )?;
        match (first, second) {
            (Some(first), Some(second)) => {
                let rank = first.down.dim(0)?;
                let factors = Factors::Hadamard(first, second);
                return if factors.agree()? {
                    Ok(Some((factors, Some(rank))))
                } else {
                    Err(self.wrong("has two products of different shapes"))
                };
            }
            (None, None) => {}
            _ => return Err(self.wrong("has one of two products")),
        }
        let (left, left_rank) = self.kronecker(
            Part::KroneckerWhole1,
            Part::KroneckerUp1,
            Part::KroneckerDown1,
            None,
        )?;
        let (right, right_rank) = self.kronecker(
            Part::KroneckerWhole2,
            Part::KroneckerUp2,
            Part::KroneckerDown2,
            Some(Part::KroneckerCore2),
        )?;
        match (left, right) {
            (Some(left), Some(right)) => Ok(Some((
                Factors::Kronecker(left, right),
                right_rank.or(left_rank),
            ))),
            (None, None) => Ok(None),
            _ => Err(self.wrong("has one of two Kronecker factors")),
        }
    }

    /// `transposed`: with a core, LyCORIS writes the left factor as `[rank, rows]`.
    fn product(
        &mut self,
        up: Part,
        down: Part,
        core: Option<Part>,
        transposed: bool,
    ) -> Result<Option<Product>> {
        let parts = (self.tensors.remove(&up), self.tensors.remove(&down));
        let (Some(up), Some(down)) = parts else {
            return match parts {
                (None, None) => Ok(None),
                _ => Err(self.wrong("has one of two factors")),
            };
        };
        let core = core.and_then(|core| self.tensors.remove(&core));
        let up = if transposed && core.is_some() && up.rank() == 2 {
            up.t()?.contiguous()?
        } else {
            up
        };
        let product = Product { up, down, core };
        if product.fits()? {
            Ok(Some(product))
        } else {
            Err(self.wrong("has factors whose ranks differ"))
        }
    }

    fn kronecker(
        &mut self,
        whole: Part,
        up: Part,
        down: Part,
        core: Option<Part>,
    ) -> Result<(Option<Kronecker>, Option<usize>)> {
        if let Some(whole) = self.tensors.remove(&whole) {
            return Ok((Some(Kronecker::Whole(whole)), None));
        }
        Ok(match self.product(up, down, core, true)? {
            Some(product) => {
                let rank = product.down.dim(0)?;
                (Some(Kronecker::Product(product)), Some(rank))
            }
            None => (None, None),
        })
    }

    fn magnitude(&mut self) -> Result<Option<Magnitude>> {
        if let Some(lengths) = self.tensors.remove(&Part::Magnitude) {
            return Ok(Some(Magnitude::Outputs(lengths)));
        }
        let Some(lengths) = self.tensors.remove(&Part::DoraScale) else {
            return Ok(None);
        };
        let dims = lengths.dims();
        let lies_in = |axis: usize| {
            dims.iter()
                .enumerate()
                .all(|(index, size)| index == axis || *size == 1)
        };
        if lies_in(0) {
            Ok(Some(Magnitude::Outputs(lengths)))
        } else if lies_in(1) {
            Ok(Some(Magnitude::Inputs(lengths)))
        } else {
            Err(self.wrong("has a dora_scale that is neither a row nor a column"))
        }
    }

    fn nothing_left(&self) -> Result<()> {
        match self.tensors.keys().next() {
            None => Ok(()),
            Some(_) => Err(self.wrong("has parts that belong to no product")),
        }
    }

    fn wrong(&self, what: &str) -> Error {
        let names: Vec<String> = self
            .infos
            .values()
            .map(|part| format!("{} {:?}", part.tensor_name, part.info.shape))
            .collect();
        Error::weights(
            self.file,
            format_args!("layer {} {what}: {}", self.place, names.join(", ")),
        )
    }
}
