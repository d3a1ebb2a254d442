//! LoRAs put into a model's weights and taken out again.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::Lora;
use super::layer::{Change, Magnitude, rows_and_columns};
use super::names::Places;
use crate::error::{Error, ErrorKind, Result};
use crate::weights::{Parameter, Parameters, enumerate};

/// The LoRAs that are in a model's weights, with the weights whose place they took.
#[derive(Default)]
pub(crate) struct LoraSet {
    loras: Vec<(Arc<Lora>, f64)>,
    replaced: BTreeMap<String, Replaced>,
    text_changed: bool,
}

/// A weight that was changed.
struct Replaced {
    base: Tensor,
    by: Vec<Use>,
}

/// One change of one LoRA at a scale.
#[derive(Clone)]
struct Use {
    lora: Arc<Lora>,
    index: usize,
    scale: f64,
}

impl PartialEq for Use {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.lora, &other.lora)
            && self.index == other.index
            && self.scale.to_bits() == other.scale.to_bits()
    }
}

impl Use {
    fn change(&self) -> Option<&Change> {
        self.lora.changes.get(self.index)
    }
}

/// The changes of every weight by its name, in the order in which they are applied.
type Plan = BTreeMap<String, Vec<Use>>;

impl LoraSet {
    /// Makes `loras` the set, whatever it was. Weights whose changes stay the same are left alone.
    ///
    /// Errors if a scale is not finite or a LoRA does not fit the model, which then keeps the set that it had, or if a
    /// weight cannot be computed, and then it has none.
    pub(crate) fn set(
        &mut self,
        parameters: &Parameters,
        model: &str,
        loras: &[(Arc<Lora>, f64)],
    ) -> Result<()> {
        if self.is(loras) {
            return Ok(());
        }
        let plan = plan(parameters, model, loras)?;
        match self.apply(parameters, plan) {
            Ok(()) => {
                self.loras = loras.to_vec();
                Ok(())
            }
            Err(error) => {
                self.apply(parameters, Plan::new())?;
                self.loras.clear();
                Err(error)
            }
        }
    }

    fn is(&self, loras: &[(Arc<Lora>, f64)]) -> bool {
        let key = |(lora, scale): &(Arc<Lora>, f64)| (Arc::as_ptr(lora), scale.to_bits());
        self.loras.iter().map(key).eq(loras.iter().map(key))
    }

    /// Whether a text encoder was changed since this was asked last.
    pub(crate) fn take_text_changed(&mut self) -> bool {
        std::mem::take(&mut self.text_changed)
    }

    /// Bytes of the changed weights, which the model needs beyond its own.
    pub(crate) fn bytes(&self) -> usize {
        self.replaced
            .values()
            .map(|replaced| replaced.base.elem_count() * replaced.base.dtype().size_in_bytes())
            .sum()
    }

    fn apply(&mut self, parameters: &Parameters, plan: Plan) -> Result<()> {
        let parameter = |name: &str| -> Result<&Parameter> {
            parameters.get(name).ok_or_else(|| {
                Error::new(ErrorKind::Internal, format!("the model has lost {name}"))
            })
        };
        let former: Vec<String> = self.replaced.keys().cloned().collect();
        for name in former.iter().filter(|name| !plan.contains_key(*name)) {
            if let Some(replaced) = self.replaced.remove(name) {
                self.text_changed |= is_text(name);
                parameter(name)?.replace(replaced.base)?;
            }
        }
        for (name, by) in plan {
            let parameter = parameter(&name)?;
            let base = match self.replaced.get(&name) {
                Some(replaced) if replaced.by == by => continue,
                Some(replaced) => replaced.base.clone(),
                None => parameter.stored(),
            };
            self.text_changed |= is_text(&name);
            parameter.replace(changed(&base, &by)?)?;
            self.replaced.insert(name, Replaced { base, by });
        }
        Ok(())
    }
}

fn is_text(name: &str) -> bool {
    name.starts_with("text_encoder")
}

/// `base` with all changes, computed in f32, in the precision that it is stored in.
fn changed(base: &Tensor, by: &[Use]) -> Result<Tensor> {
    let precise = base.to_dtype(DType::F32)?;
    let mut weight = precise.clone();
    for one in by {
        if let Some(change) = one.change() {
            weight = change.apply(&weight, &precise, one.scale)?;
        }
    }
    Ok(weight.to_dtype(base.dtype())?)
}

fn plan(parameters: &Parameters, model: &str, loras: &[(Arc<Lora>, f64)]) -> Result<Plan> {
    let places = Places::of(parameters);
    let mut plan = Plan::new();
    for (lora, scale) in loras {
        if !scale.is_finite() {
            return Err(Error::parameter(format!(
                "the scale of {} must be finite, got {scale}",
                lora.name
            )));
        }
        for (index, name) in fit(lora, &places, parameters, model)?
            .into_iter()
            .enumerate()
        {
            // At scale 0 a LoRA is off: its lengths, which have no scale, are too.
            if *scale != 0.0 {
                plan.entry(name).or_default().push(Use {
                    lora: lora.clone(),
                    index,
                    scale: *scale,
                });
            }
        }
    }
    Ok(plan)
}

/// The weight that each of the LoRA's changes is for. Errors tell of all that have none or do not fit it.
fn fit(lora: &Lora, places: &Places, parameters: &Parameters, model: &str) -> Result<Vec<String>> {
    let mut names = Vec::with_capacity(lora.changes.len());
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    let mut problems = Problems::default();
    for change in &lora.changes {
        let target = places
            .find(&change.place)
            .map(|layer| format!("{layer}.{}", change.target.as_str()));
        let found = target.and_then(|name| parameters.get(&name));
        let Some(parameter) = found else {
            problems.homeless.push(change.place.clone());
            continue;
        };
        if let Some(misfit) = misfit(change, parameter)? {
            problems.misshapen.push(misfit);
        }
        let name = parameter.name().to_owned();
        match taken.insert(name.clone(), &change.place) {
            Some(former) if former != change.place => {
                problems
                    .twice
                    .push(format!("{former} and {}", change.place));
            }
            _ => {}
        }
        names.push(name);
    }
    problems.report(lora, parameters, model)?;
    Ok(names)
}

/// What is wrong with the change of a weight, if anything is.
fn misfit(change: &Change, parameter: &Parameter) -> Result<Option<String>> {
    let weight = parameter.stored();
    let ((rows, columns), wanted) = (change.factors.size()?, rows_and_columns(&weight)?);
    let place = &change.place;
    if (rows, columns) != wanted {
        return Ok(Some(format!(
            "{place} is {rows}x{columns}, the model's is {}x{}",
            wanted.0, wanted.1
        )));
    }
    let lengths = match &change.magnitude {
        None => return Ok(None),
        Some(Magnitude::Outputs(_)) => rows,
        Some(Magnitude::Inputs(_)) => weight.dim(1)?,
    };
    let has = change.magnitude.as_ref().map(Magnitude::length);
    Ok((has != Some(lengths)).then(|| {
        format!(
            "{place} has {} lengths, the model's has {lengths}",
            has.unwrap_or_default()
        )
    }))
}

/// Why a LoRA does not fit, by layer.
#[derive(Default)]
struct Problems {
    homeless: Vec<String>,
    misshapen: Vec<String>,
    twice: Vec<String>,
}

impl Problems {
    fn report(self, lora: &Lora, parameters: &Parameters, model: &str) -> Result<()> {
        let all = lora.changes.len();
        let sentences: Vec<String> = [
            ("have no place in it", self.homeless),
            ("do not fit", self.misshapen),
            ("are named twice", self.twice),
        ]
        .into_iter()
        .filter(|(_, layers)| !layers.is_empty())
        .map(|(what, layers)| {
            format!(
                "{} of {all} layers {what}: {}",
                layers.len(),
                enumerate(&layers)
            )
        })
        .collect();
        if sentences.is_empty() {
            return Ok(());
        }
        let width = |width: Option<usize>| match width {
            Some(width) => format!(", its cross attention {width} wide"),
            None => String::new(),
        };
        let seems = match &lora.description.base {
            Some(base) => format!("it seems to be for {base}"),
            None => "what it is for cannot be told".to_owned(),
        };
        Err(Error::new(
            ErrorKind::LoraMismatch,
            format!(
                "{}: does not fit this model; {}; {seems}{}, and this is {model}{}",
                lora.name,
                sentences.join("; "),
                width(lora.description.cross_attention_width),
                width(cross_attention_width(parameters)),
            ),
        ))
    }
}

fn cross_attention_width(parameters: &Parameters) -> Option<usize> {
    let (_, parameter) = parameters
        .iter()
        .find(|(name, _)| name.ends_with(".attn2.to_k.weight"))?;
    parameter.stored().dims().get(1).copied()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::lora::describe::LoraDescription;
    use crate::lora::file::LoraFile;
    use crate::lora::layer::{Factors, Target};

    fn parameters(dtype: DType) -> Parameters {
        ["unet.conv_in.weight", "unet.conv_out.weight"]
            .map(|name| {
                let value = Tensor::ones((2, 3), dtype, &Device::Cpu).unwrap();
                (
                    name.to_owned(),
                    Parameter::new(name.to_owned(), value, DType::F32),
                )
            })
            .into()
    }

    /// Adds to these layers.
    fn lora(places: &[&str], by: f32) -> Arc<Lora> {
        let file = LoraFile {
            name: "x".to_owned(),
            metadata: std::collections::HashMap::default(),
            layers: BTreeMap::default(),
        };
        let change = |place: &&str| Change {
            place: (*place).to_owned(),
            target: Target::Weight,
            factors: Factors::Full(Tensor::full(by, (2, 3), &Device::Cpu).unwrap()),
            strength: 1.0,
            magnitude: None,
        };
        Arc::new(Lora {
            name: "x".to_owned(),
            description: LoraDescription::of(&file),
            changes: places.iter().map(change).collect(),
        })
    }

    fn ids(parameters: &Parameters) -> Vec<candle_core::TensorId> {
        parameters.values().map(|one| one.stored().id()).collect()
    }

    #[test]
    fn undoing_puts_back_the_very_tensors_in_any_precision() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let parameters = parameters(dtype);
            let own = ids(&parameters);
            let mut set = LoraSet::default();
            let changing = lora(&["unet.conv_in", "unet.conv_out"], 0.5);
            set.set(&parameters, "test", &[(changing, 2.0)]).unwrap();
            let changed = parameters.values().next().unwrap().stored();
            assert_eq!(changed.dtype(), dtype);
            let sum = changed.to_dtype(DType::F32).unwrap().sum_all().unwrap();
            assert_eq!(sum.to_scalar::<f32>().unwrap().to_bits(), 12f32.to_bits());
            assert_eq!(set.bytes(), 12 * dtype.size_in_bytes());
            set.set(&parameters, "test", &[]).unwrap();
            assert_eq!(ids(&parameters), own);
            assert_eq!(set.bytes(), 0);
        }
    }

    #[test]
    fn weights_whose_changes_stay_the_same_are_not_computed_again() {
        let parameters = parameters(DType::F32);
        let both = lora(&["unet.conv_in", "unet.conv_out"], 0.5);
        let one = lora(&["unet.conv_out"], 0.25);
        let mut set = LoraSet::default();
        set.set(&parameters, "test", &[(both.clone(), 1.0)])
            .unwrap();
        let before = ids(&parameters);
        set.set(&parameters, "test", &[(both.clone(), 1.0)])
            .unwrap();
        assert_eq!(ids(&parameters), before);
        set.set(&parameters, "test", &[(both.clone(), 1.0), (one, 1.0)])
            .unwrap();
        let after = ids(&parameters);
        assert_eq!(after.first(), before.first());
        assert_ne!(after.last(), before.last());
        set.set(&parameters, "test", &[(both, -1.0)]).unwrap();
        assert_ne!(ids(&parameters).first(), after.first());
    }
}
